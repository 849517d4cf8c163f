"""The timing wheel alone."""

from __future__ import annotations

import asyncio

from cubequeue_server.requests.ask import Ask
from cubequeue_server.requests.timing_wheel import TICK_S, TimingWheel


async def test_each_is_given_up_once_in_order_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    given_up: list[tuple[Ask, float]] = []
    wheel = TimingWheel(loop, lambda due: given_up.extend((ask, loop.time()) for ask in due))
    started = loop.time()
    waiting = [Ask(timeout_ms) for timeout_ms in (90, 30, 0, 60, 31, 90, 1)]
    for ask in waiting:
        wheel.add(ask, ask.timeout_ms or 0)
    assert len(wheel) == 7
    await asyncio.sleep(0.2)
    assert len(wheel) == 0
    assert sorted(map(id, waiting)) == sorted(id(ask) for ask, _ in given_up)
    for ask, at_s in given_up:
        asked_s = (ask.timeout_ms or 0) / 1000
        assert at_s - started >= asked_s
        assert at_s - started < asked_s + 0.1


async def test_a_cancelled_wait_is_forgotten() -> None:
    given_up: list[Ask] = []
    wheel = TimingWheel(asyncio.get_running_loop(), given_up.extend)
    kept, cancelled = Ask(20), Ask(20)
    wheel.add(kept, 20)
    wheel.add(cancelled, 20)
    wheel.cancel(cancelled)
    wheel.cancel(cancelled)
    await asyncio.sleep(0.06)
    assert given_up == [kept]
    wheel.cancel(kept)


async def test_a_shorter_wait_goes_ahead_of_the_timer() -> None:
    given_up: list[Ask] = []
    wheel = TimingWheel(asyncio.get_running_loop(), given_up.extend)
    wheel.add(Ask(None), 60_000)
    short = Ask(None)
    wheel.add(short, 10)
    await asyncio.sleep(0.05)
    assert given_up == [short]
    wheel.stop()
    assert len(wheel) == 0


async def test_one_that_gives_up_may_add_another() -> None:
    given_up: list[Ask] = []

    def again(due: list[Ask]) -> None:
        given_up.extend(due)
        if len(given_up) < 3:
            wheel.add(Ask(None), 0)

    wheel = TimingWheel(asyncio.get_running_loop(), again)
    wheel.add(Ask(None), 0)
    await asyncio.sleep(10 * TICK_S)
    assert len(given_up) == 3


async def test_a_hundred_thousand_waits() -> None:
    given_up: list[Ask] = []
    wheel = TimingWheel(asyncio.get_running_loop(), given_up.extend)
    for number in range(100_000):
        wheel.add(Ask(None), number % 100)
    await asyncio.sleep(0.3)
    assert len(given_up) == 100_000


async def test_places_of_waits_that_ended_early_are_not_kept_until_their_time() -> None:
    given_up: list[Ask] = []
    wheel = TimingWheel(asyncio.get_running_loop(), given_up.extend)
    kept = Ask(None)
    wheel.add(kept, 50)
    for number in range(30_000):
        ask = Ask(None)
        wheel.add(ask, 3_600_000 + 10 * number)
        wheel.cancel(ask)
    assert len(wheel._by_tick) == len(wheel._ticks) < 10_100
    await asyncio.sleep(0.1)
    assert given_up == [kept]
    wheel.stop()


async def test_no_wait_outlives_its_client_for_more_than_an_hour() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimingWheel(loop, lambda due: None)
    ask = Ask(None)
    wheel.add(ask, 2**64 - 1)
    assert 3_599 < ask.tick * TICK_S - loop.time() < 3_601
    wheel.stop()
