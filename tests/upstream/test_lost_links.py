"""The CubeStore goes away, comes back, or is brought down by a statement: what clients see of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from protocol.client_codec import ErrorReply, Reply, Rows
from protocol.encode import encode_error
from tests.server.client import Client, connected
from tests.server.harness import until
from tests.upstream.harness import passing, standing_in
from tests.upstream.stand_in import Received, StandIn, text_answer

PASSES = "SELECT * FROM prod.orders"


def text_of(reply: Reply) -> str:
    """The one cell of an answer, or the text of an error."""
    if isinstance(reply, ErrorReply):
        return reply.text
    assert isinstance(reply, Rows)
    ((cell,),) = reply.rows
    assert cell is not None
    return cell.decode()


async def slow_answer(received: Received) -> bytes:
    await asyncio.sleep(0.3)
    return text_answer(received, received.text)


# Away, and back


async def test_what_waits_while_the_cubestore_is_restarted_is_answered() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), connected(server.address) as client:
        stand_in.answer = slow_answer
        ids = [await client.send(f"{PASSES} -- {number}") for number in range(20)]
        await until(lambda: len(stand_in.received) == 20)
        await stand_in.stop()
        ids += [await client.send(f"{PASSES} -- {number}") for number in range(20, 40)]
        for number in range(20):  # queue and cache go on
            assert isinstance(await client.ask(f"CACHE GET 'k{number}'"), Rows)
        assert upstream.counters.is_up == 0
        await stand_in.start()
        for number, message_id in enumerate(ids):
            assert text_of(await client.reply(message_id)) == f"{PASSES} -- {number}"
        assert not client.is_closed
        assert upstream.counters.is_up == 1
        assert upstream.counters.reconnects == 1
        assert 20 <= upstream.counters.resent <= 40  # the later ones may have been sent before the loss was seen
        assert upstream.counters.waiting == upstream.counters.waiting_bytes == 0


async def test_past_the_timeout_the_text_says_what_is_the_matter() -> None:
    async with standing_in() as stand_in:
        await stand_in.stop()
        async with passing(stand_in, timeout_s=0.4) as (server, upstream), connected(server.address) as client:
            began_s = time.monotonic()
            reply = await client.ask(PASSES)
            assert time.monotonic() - began_s >= 0.4
            assert text_of(reply) == (
                f"CubeStore at ws://127.0.0.1:{stand_in.port} cannot be reached: Connection refused (waited 0.4 s)."
                " Queue and cache are not affected."
            )
            assert not client.is_closed
            assert upstream.counters.statements_unreachable == 1
            assert upstream.counters.waiting == upstream.counters.waiting_bytes == 0
            await stand_in.start()
            assert text_of(await client.ask(PASSES + " -- later")) == PASSES + " -- later"
            await stand_in.stop()
        await stand_in.start()


async def test_200_clients_are_back_at_once_and_not_one_after_the_other() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server.address, f"c{number}")) for number in range(200)]
        for client in clients:
            await client.ask(PASSES)
        await stand_in.stop()
        ids = [await client.send(PASSES + " -- again") for client in clients]
        await until(lambda: upstream.counters.is_up == 0)
        await stand_in.start()
        began_s = time.monotonic()
        for client, message_id in zip(clients, ids, strict=True):
            assert text_of(await client.reply(message_id)) == PASSES + " -- again"
        assert upstream.counters.reconnects == 200
        # One attempt after the other would take a back-off each: 200 of some 0.1 s.
        assert time.monotonic() - began_s < 10


async def test_a_long_statement_has_no_limit_of_ours() -> None:
    async def answer(received: Received) -> bytes:
        await asyncio.sleep(1.0)
        return text_answer(received, "at last")

    async with standing_in() as stand_in, passing(stand_in, timeout_s=0.2) as (server, _):
        stand_in.answer = answer
        async with connected(server.address) as client:
            assert text_of(await client.ask(PASSES)) == "at last"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013])
async def test_a_close_is_a_lost_link(code: int, caplog: pytest.LogCaptureFixture) -> None:
    closed = False

    async def answer(received: Received) -> bytes | None:
        nonlocal closed
        if not closed:
            closed = True
            received.forget()
            received.connection.close(code, "try again later")
            return None
        return text_answer(received, "fine")

    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        stand_in.answer = answer
        assert text_of(await client.ask(PASSES)) == "fine"
    assert any(f"closed with {code} try again later" in str(vars(record)) for record in caplog.records)


# Life


async def test_an_empty_pong_keeps_the_link_and_silence_ends_it() -> None:
    async with standing_in() as stand_in, passing(stand_in, ping_interval_s=0.05, silence_timeout_s=0.3) as (server, _):
        async with connected(server.address) as client:
            await client.ask(PASSES)
            await asyncio.sleep(0.8)
            assert len(stand_in.open_connections) == 1
            assert stand_in.connections[0].pings >= 3
            stand_in.answers_pings = False
            await until(lambda: not stand_in.open_connections)
            assert not client.is_closed
            stand_in.answers_pings = True
            await client.ask(PASSES + " -- again")
        assert len(stand_in.used_connections) == 2


async def test_a_statement_on_a_silent_link_is_sent_again() -> None:
    stalled: set[int] = set()

    async def answer(received: Received) -> bytes | None:
        if received.connection.number == 1:
            stalled.add(received.request.message_id)
            received.forget()
            return None
        return text_answer(received, "second link")

    async with standing_in() as stand_in, passing(stand_in, ping_interval_s=0.05, silence_timeout_s=0.3) as (server, _):
        stand_in.answer = answer
        stand_in.answers_pings = False
        async with connected(server.address) as client:
            message_id = await client.send(PASSES)
            await until(lambda: bool(stalled))
            await until(lambda: not stand_in.open_connections)
            stand_in.answers_pings = True
            assert text_of(await client.reply(message_id)) == "second link"


# The client's socket is cut


async def test_a_statement_whose_client_comes_back_is_executed_once() -> None:
    running = asyncio.Event()
    go_on = asyncio.Event()

    async def answer(received: Received) -> bytes:
        running.set()
        await go_on.wait()
        return text_answer(received, f"execution {sum(received.connection.executed.values())}")

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.answer = answer
        async with connected(server.address, "one") as client:
            message_id = await client.send(PASSES)
            await running.wait()
            client.drop()
        await until(lambda: not stand_in.open_connections)
        async with connected(server.address, "one") as client:
            await client.send(PASSES, message_id=message_id)
            await until(lambda: len(stand_in.received) == 2)
            go_on.set()
            assert text_of(await client.reply(message_id)) == "execution 1"
            await client.settle()
            await asyncio.sleep(0.05)
            assert len(client.replies[message_id]) == 1
        assert sum(stand_in.executed.values()) == 1
        assert upstream.counters.statements_abandoned == 1


async def test_an_answer_that_was_ready_meanwhile_is_kept_there() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _):
        stand_in.answer = slow_answer
        async with connected(server.address, "one") as client:
            message_id = await client.send(PASSES)
            await until(lambda: bool(stand_in.received))
            client.drop()
        await asyncio.sleep(0.4)
        async with connected(server.address, "one") as client:
            await client.send(PASSES, message_id=message_id)
            assert text_of(await client.reply(message_id)) == PASSES
        assert sum(stand_in.executed.values()) == 1


# A statement that brings connections down


def deadly(stand_in: StandIn, *, dies: bool) -> None:
    """Let the stand-in drop the connection, or die and come back, on each statement with the word DEADLY."""

    async def answer(received: Received) -> bytes | None:
        if "DEADLY" not in received.text:
            await asyncio.sleep(0.05)
            return text_answer(received, received.text)
        if dies:
            stand_in.die()
            await stand_in.start()
        else:
            stand_in.deaths += 1
            received.forget()
            received.connection.drop()
        return None

    stand_in.answer = answer


LOST_TWICE = "The connection to CubeStore was lost twice while it worked on this statement: "


@pytest.mark.parametrize("dies", [False, True])
async def test_alone_it_fails_after_two_losses_and_stays_failed(dies: bool) -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        deadly(stand_in, dies=dies)
        async with connected(server.address, "one") as client:
            message_id = await client.send(PASSES + " -- DEADLY")
            assert text_of(await client.reply(message_id)).startswith(LOST_TWICE)
        async with connected(server.address, "one") as client:  # as Cube does, under the same id
            await client.send(PASSES + " -- DEADLY", message_id=message_id)
            assert text_of(await client.reply(message_id)).startswith(LOST_TWICE)
            assert text_of(await client.ask(PASSES + " -- 9", message_id=9)) == PASSES + " -- 9"
        assert stand_in.deaths == 2
        assert upstream.counters.statements_lost == 2


@pytest.mark.parametrize("dies", [False, True])
async def test_a_client_that_brings_it_back_on_each_new_socket_ends_it_no_third_time(dies: bool) -> None:
    """The client gives its socket up at each loss, as a driver does without us: losses are counted by message."""
    async with standing_in() as stand_in, passing(stand_in, settle_s=0.3) as (server, _):
        deadly(stand_in, dies=dies)
        for _ in range(2):
            deaths = stand_in.deaths
            async with connected(server.address, "one") as client:
                await client.send(PASSES + " -- DEADLY", message_id=7)
                await until(lambda deaths=deaths: stand_in.deaths > deaths)  # type: ignore[misc]
                client.drop()
            await asyncio.sleep(0.4)  # the loss is judged
        for _ in range(3):
            async with connected(server.address, "one") as client:
                await client.send(PASSES + " -- DEADLY", message_id=7)
                assert text_of(await client.reply(7)).startswith(LOST_TWICE)
        assert stand_in.deaths == 2


@pytest.mark.parametrize("dies", [False, True])
async def test_in_company_the_others_are_answered(dies: bool) -> None:
    """Twice together, then each in turn: the one to blame is alone twice."""
    async with standing_in() as stand_in, passing(stand_in) as (server, _), AsyncExitStack() as stack:
        deadly(stand_in, dies=dies)
        clients = [await stack.enter_async_context(connected(server.address, f"c{number}")) for number in range(5)]
        ids: list[tuple[Client, int, str]] = []
        for number in range(10):
            for at, client in enumerate(clients):
                text = PASSES + (" -- DEADLY" if (at, number) == (2, 5) else f" -- {number}")
                ids.append((client, await client.send(text), text))
        for client, message_id, text in ids:
            got = text_of(await client.reply(message_id))
            assert got == text or ("DEADLY" in text and got.startswith(LOST_TWICE)), got
        assert stand_in.deaths <= 4
        assert not any(client.is_closed for client in clients)
        text = PASSES + " -- afterwards"
        assert [text_of(await client.ask(text)) for client in clients] == [text] * 5


@pytest.mark.parametrize("named", [True, False])
async def test_a_1009_fails_the_message_of_the_size_that_it_names(named: bool) -> None:
    big = PASSES + " -- " + "x" * 300_000

    async def answer(received: Received) -> bytes | None:
        if len(received.raw) > 200_000:
            received.forget()
            size = len(received.raw)
            named_reason = f"Message of {size} bytes exceeds the maximum message size of 200000 bytes"
            received.connection.close(1009, named_reason if named else "too long")
            return None
        await asyncio.sleep(0.1)
        return text_answer(received, received.text)

    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        stand_in.answer = answer
        small = [await client.send(f"{PASSES} -- {number}") for number in range(5)]
        large = await client.send(big)
        for number, message_id in enumerate(small):
            assert text_of(await client.reply(message_id)) == f"{PASSES} -- {number}"
        text = text_of(await client.reply(large))
        assert text.startswith("CubeStore closed the connection because of" if named else LOST_TWICE), text
        assert len(stand_in.used_connections) == (2 if named else 4)


# Bounds


async def test_one_statement_more_than_may_wait_is_refused() -> None:
    async with standing_in() as stand_in:
        await stand_in.stop()
        async with (
            passing(stand_in, max_waiting=10, timeout_s=30.0) as (server, upstream),
            connected(server.address) as client,
        ):
            ids = [await client.send(f"{PASSES} -- {number}") for number in range(11)]
            assert text_of(await client.reply(ids[-1])) == (
                "10 statements wait for CubeStore already, the limit is CUBEQUEUE_UPSTREAM_MAX_WAITING"
            )
            assert upstream.counters.waiting == 10
            assert isinstance(await client.ask("CACHE GET 'k'"), Rows)
            await stand_in.start()
            for number, message_id in enumerate(ids[:-1]):
                assert text_of(await client.reply(message_id)) == f"{PASSES} -- {number}"


async def test_one_byte_more_than_may_wait_is_refused() -> None:
    async with standing_in() as stand_in:
        await stand_in.stop()
        async with (
            passing(stand_in, max_waiting_bytes=1000, timeout_s=30.0) as (server, upstream),
            connected(server.address) as client,
        ):
            first = await client.send(PASSES + " -- " + "x" * 500)
            second = await client.send(PASSES + " -- " + "x" * 500)
            text = text_of(await client.reply(second))
            assert text.startswith("1000 bytes of statements may wait for CubeStore")
            assert 0 < upstream.counters.waiting_bytes <= 1000
            await stand_in.start()
            assert isinstance(await client.reply(first), Rows)


async def test_past_the_bytes_what_runs_is_let_go_and_fails_instead_of_being_sent_again() -> None:
    never = asyncio.Event()

    async def answer(received: Received) -> bytes | None:
        if "never" in received.text:
            await never.wait()
        return text_answer(received, received.text)

    async with standing_in() as stand_in, passing(stand_in, max_waiting_bytes=1000) as (server, upstream):
        stand_in.answer = answer
        async with connected(server.address) as client:
            runs = await client.send(PASSES + " -- never " + "x" * 500)
            await until(lambda: len(stand_in.received) == 1)
            later = await client.send(PASSES + " -- never " + "y" * 500)
            await until(lambda: len(stand_in.received) == 2)
            assert upstream.counters.waiting_bytes <= 1000
            stand_in.answer = slow_answer
            await stand_in.stop()
            assert text_of(await client.reply(runs)).endswith(
                "which was not kept to be sent again (CUBEQUEUE_UPSTREAM_MAX_WAITING_SIZE): the connection ended"
            )
            await stand_in.start()
            assert "yyy" in text_of(await client.reply(later))


async def test_an_answer_above_the_limit_is_an_error_and_the_next_one_comes() -> None:
    async def answer(received: Received) -> bytes:
        return text_answer(received, "a" * (2_000_000 if "large" in received.text else 10))

    async with standing_in() as stand_in, passing(stand_in, reply_max_bytes=1 << 20) as (server, upstream):
        stand_in.answer = answer
        async with connected(server.address) as client:
            text = text_of(await client.ask(PASSES + " -- large"))
            assert text.startswith("CubeStore answered with 2000")
            assert text.endswith(" bytes, more than CUBEQUEUE_UPSTREAM_REPLY_MAX_SIZE")
            assert text_of(await client.ask(PASSES)) == "a" * 10
        assert len(stand_in.connections) == 1
        assert upstream.counters.statements_oversized == 1


async def test_a_60_mb_answer_passes_byte_for_byte_and_a_slow_reader_pauses_its_own_link_only() -> None:
    size = 60_000_000

    async def answer(received: Received) -> bytes:
        return text_answer(received, "a" * (size if "large" in received.text else 10))

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.answer = answer
        async with connected(server.address, "slow") as slow, connected(server.address, "other") as other:
            slow.websocket.transport.pause_reading()
            message_id = await slow.send(PASSES + " -- large")
            await until(lambda: upstream.counters.bytes_received > 0 or len(stand_in.received) == 1)
            for number in range(50):
                assert text_of(await other.ask(f"{PASSES} -- {number}")) == "a" * 10
                assert isinstance(await other.ask(f"QUEUE HEARTBEAT 'q:{number}'"), Rows)
            assert slow.replies[message_id] == []
            slow.websocket.transport.resume_reading()
            assert text_of(await slow.reply(message_id)) == "a" * size


# Credentials and requirement


async def test_wrong_credentials_are_said_and_no_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with standing_in() as stand_in:
        stand_in.credentials = ("cube", "right-secret")
        async with passing(stand_in, authorization=b"Basic d3Jvbmc6d3Jvbmctc2VjcmV0") as (server, upstream):
            async with connected(server.address) as client:
                text = text_of(await client.ask(PASSES))
                assert text == f"CubeStore at ws://127.0.0.1:{stand_in.port} refused the connection: 403 Not authorized"
                assert isinstance(await client.ask("CACHE GET 'k'"), Rows)
            assert upstream.counters.statements_declined == 1
            assert "secret" not in repr(upstream.target)
    assert "d3Jvbmc6d3Jvbmctc2VjcmV0" not in "".join(str(vars(record)) for record in caplog.records)


async def test_a_clients_credentials_arrive_where_there_are_no_others() -> None:
    async with standing_in() as stand_in:
        stand_in.credentials = ("cube", "pw")
        async with passing(stand_in, forwards_credentials=True) as (server, _):
            async with connected(server.address, "a", Authorization="Basic Y3ViZTpwdw==", x_process_id="p-1") as client:
                assert text_of(await client.ask(PASSES)) == PASSES
            assert stand_in.connections[-1].header("x-process-id") == "p-1"
            assert stand_in.connections[-1].header("authorization") == "Basic Y3ViZTpwdw=="
            async with connected(server.address, "b") as client:
                assert "403 Not authorized" in text_of(await client.ask(PASSES))


@pytest.mark.parametrize("is_required", [False, True])
async def test_select_1_with_the_cubestore_down(is_required: bool) -> None:
    async with standing_in() as stand_in:
        await stand_in.stop()
        async with passing(stand_in, is_required=is_required, probe_interval_s=0.05) as (server, upstream):
            upstream.start()
            await until(lambda: upstream.counters.is_up == 0 and "refused" in upstream.reason)
            async with connected(server.address) as client:
                reply = await client.ask("SELECT 1")
                assert isinstance(reply, ErrorReply) == is_required
                if is_required:
                    assert text_of(reply) == (
                        f"CubeStore at ws://127.0.0.1:{stand_in.port} cannot be reached: Connection refused"
                        " (CUBEQUEUE_UPSTREAM_REQUIRED)"
                    )
                await stand_in.start()
                await until(lambda: upstream.counters.is_up == 1)
                assert isinstance(await client.ask("SELECT 1"), Rows)
                await stand_in.stop()  # with no client waiting it is noticed all the same, where it is required
                if is_required:
                    await until(lambda: upstream.counters.is_up == 0)
                await stand_in.start()


async def test_errors_of_the_cubestore_pass_as_they_are() -> None:
    raw = b""

    async def answer(received: Received) -> bytes:
        nonlocal raw
        raw = encode_error(received.request.message_id, "Internal: Execution: äöü\n\nCaused by: x")
        return raw

    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        stand_in.answer = answer
        assert text_of(await client.ask(PASSES)) == "Internal: Execution: äöü\n\nCaused by: x"
