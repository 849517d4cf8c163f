"""When answers are written: together with those of other reads of the turn, or at once where there are none."""

from __future__ import annotations

import asyncio

from cubequeue_server.net.outbox import Outbox


class Sender:
    def __init__(self) -> None:
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1

    def abort(self, cause: str) -> None:
        raise AssertionError(cause)


class Broken(Sender):
    def __init__(self) -> None:
        super().__init__()
        self.causes: list[str] = []

    def flush(self) -> None:
        raise OSError("gone")

    def abort(self, cause: str) -> None:
        self.causes.append(cause)


async def a_turn_passes() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def read(outbox: Outbox, sender: Sender) -> bool:
    """A read with an answer ended, as a WebSocket takes note of it; whether that was written at once."""
    before = sender.flushed
    if outbox.alone_reads and not outbox.waiting:
        outbox.alone_reads -= 1
        sender.flush()
    else:
        outbox.waiting.append(sender)
        outbox.on_read_end()
    return sender.flushed > before


async def test_answers_of_a_turn_leave_together() -> None:
    outbox, senders = Outbox(asyncio.get_running_loop()), [Sender() for _ in range(3)]
    for _ in range(100):
        assert not any(read(outbox, sender) for sender in senders)
        await a_turn_passes()
    assert [sender.flushed for sender in senders] == [100, 100, 100]


async def test_a_client_alone_does_not_wait_for_others_and_company_is_noticed() -> None:
    outbox, one, other = Outbox(asyncio.get_running_loop()), Sender(), Sender()
    at_once = []
    for _ in range(200):
        at_once.append(read(outbox, one))
        await a_turn_passes()
    assert one.flushed == 200
    assert not any(at_once[:16]), "it may be chance"
    assert at_once[50:].count(False) <= 6, "it is looked again now and then"
    together = 0
    for _ in range(100):
        together += not (read(outbox, one) | read(outbox, other))
        await a_turn_passes()
    assert (one.flushed, other.flushed) == (300, 100)
    assert together > 80


async def test_a_connection_that_cannot_be_written_to_takes_no_others_answers() -> None:
    outbox, broken, other = Outbox(asyncio.get_running_loop()), Broken(), Sender()
    for at in range(1, 3):
        assert not (read(outbox, broken) | read(outbox, other))
        await a_turn_passes()
        assert (broken.causes, other.flushed) == (["internal"] * at, at)


async def test_what_waits_together_is_bounded() -> None:
    outbox, senders = Outbox(asyncio.get_running_loop()), [Sender() for _ in range(100)]
    for _ in range(30):
        for sender in senders:
            read(outbox, sender)
            assert len(outbox.waiting) <= 32
        await a_turn_passes()
    assert {sender.flushed for sender in senders} == {30}
    assert not read(outbox, senders[0]), "nobody was taken for alone"
