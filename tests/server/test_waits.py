"""The timing wheel alone."""

from __future__ import annotations

import asyncio

from cubequeue_server.requests.waits import TICK_S, Waits
from storage.engine import Pending


async def test_each_is_given_up_once_in_order_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    given_up: list[tuple[Pending, float]] = []
    waits = Waits(loop, lambda due: given_up.extend((pending, loop.time()) for pending in due))
    started = loop.time()
    waiting = [Pending(timeout_ms) for timeout_ms in (90, 30, 0, 60, 31, 90, 1)]
    for pending in waiting:
        waits.add(pending, pending.timeout_ms or 0)
    assert len(waits) == 7
    await asyncio.sleep(0.2)
    assert len(waits) == 0
    assert sorted(map(id, waiting)) == sorted(id(pending) for pending, _ in given_up)
    for pending, at_s in given_up:
        asked_s = (pending.timeout_ms or 0) / 1000
        assert at_s - started >= asked_s
        assert at_s - started < asked_s + 0.1


async def test_a_cancelled_wait_is_forgotten() -> None:
    given_up: list[Pending] = []
    waits = Waits(asyncio.get_running_loop(), given_up.extend)
    kept, cancelled = Pending(20), Pending(20)
    waits.add(kept, 20)
    tick = waits.add(cancelled, 20)
    waits.cancel(cancelled, tick)
    waits.cancel(cancelled, tick)
    await asyncio.sleep(0.06)
    assert given_up == [kept]
    waits.cancel(kept, tick)


async def test_a_shorter_wait_goes_ahead_of_the_timer() -> None:
    given_up: list[Pending] = []
    waits = Waits(asyncio.get_running_loop(), given_up.extend)
    waits.add(Pending(None), 60_000)
    short = Pending(None)
    waits.add(short, 10)
    await asyncio.sleep(0.05)
    assert given_up == [short]
    waits.stop()
    assert len(waits) == 0


async def test_one_that_gives_up_may_add_another() -> None:
    given_up: list[Pending] = []

    def again(due: list[Pending]) -> None:
        given_up.extend(due)
        if len(given_up) < 3:
            waits.add(Pending(None), 0)

    waits = Waits(asyncio.get_running_loop(), again)
    waits.add(Pending(None), 0)
    await asyncio.sleep(10 * TICK_S)
    assert len(given_up) == 3


async def test_a_hundred_thousand_waits() -> None:
    given_up: list[Pending] = []
    waits = Waits(asyncio.get_running_loop(), given_up.extend)
    for number in range(100_000):
        waits.add(Pending(None), number % 100)
    await asyncio.sleep(0.3)
    assert len(given_up) == 100_000


async def test_places_of_waits_that_ended_early_are_not_kept_until_their_time() -> None:
    given_up: list[Pending] = []
    waits = Waits(asyncio.get_running_loop(), given_up.extend)
    kept = Pending(None)
    waits.add(kept, 50)
    for number in range(30_000):
        pending = Pending(None)
        waits.cancel(pending, waits.add(pending, 3_600_000 + 10 * number))
    assert len(waits._by_tick) == len(waits._ticks) < 10_100
    await asyncio.sleep(0.1)
    assert given_up == [kept]
    waits.stop()


async def test_no_wait_outlives_its_client_for_more_than_an_hour() -> None:
    loop = asyncio.get_running_loop()
    waits = Waits(loop, lambda due: None)
    tick = waits.add(Pending(None), 2**64 - 1)
    assert 3_599 < tick * TICK_S - loop.time() < 3_601
    waits.stop()
