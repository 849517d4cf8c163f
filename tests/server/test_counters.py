"""How long statements took, and how late the loop was."""

from __future__ import annotations

import asyncio
import time

from cubequeue_server.observe import counters
from cubequeue_server.observe.counters import LoopLag, count, cumulative, new_histogram, observe, sum_s
from storage.vocabulary import OtherSql, QueueAck, QueueAdd, QueueResultBlocking, Result, Statement
from tests.server.client import connected
from tests.server.harness import Answering, SlowDurableStore, answer_one, serving, until


def test_a_histogram_counts_by_powers_of_two() -> None:
    histogram = new_histogram()
    for duration_ns in (1, 3, 4, 1_000_000_000, -5, 1 << 70):
        observe(histogram, duration_ns)
    assert count(histogram) == 6
    assert sum_s(histogram) == (1 + 3 + 4 + 1_000_000_000 + 1 + (1 << 70)) / 1e9
    assert list(cumulative(histogram, [1, 2, 3, 29, 30, 40])) == [
        (2e-9, 2), (4e-9, 3), (8e-9, 4), (2**29 / 1e9, 4), (2**30 / 1e9, 5), (2**40 / 1e9, 6)
    ]  # fmt: skip


async def test_durations_are_of_the_work_and_waits_of_the_waiting() -> None:
    def slow(statement: Statement, now_ms: int) -> Result:
        time.sleep(0.02)
        return answer_one(statement, now_ms)

    async with serving(sql=Answering(slow)) as server, connected(server.address) as client:
        await client.rows("SELECT 1")
        await client.rows("QUEUE ADD 'q:a' 'x'")
        waiting = await client.send("QUEUE RESULT_BLOCKING 10000 'q:a'")
        await asyncio.sleep(0.05)
        await client.rows("QUEUE ACK 'q:a' 'x'")
        await client.reply(waiting)
        durations, waits = server.counters.durations, server.counters.waits
        assert [count(durations[kind]) for kind in (OtherSql, QueueAdd, QueueResultBlocking)] == [1, 1, 1]
        assert sum_s(durations[OtherSql]) >= 0.02
        assert sum_s(durations[QueueResultBlocking]) < 0.04 < sum_s(waits[QueueResultBlocking])
        assert QueueAdd not in waits


async def test_waiting_for_the_journal_is_a_wait() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        asked = await client.send("QUEUE ACK 1 'x'")
        added = await client.send("QUEUE ADD 'q:a' 'x'")
        await client.reply(asked)
        await until(lambda: server.in_flight)
        store.sync()
        await client.reply(added)
        assert count(server.counters.waits[QueueAdd]) == 1
        assert QueueAck not in server.counters.waits


async def test_a_loop_that_is_held_up_is_late() -> None:
    lag = LoopLag()
    lag.start()
    time.sleep(counters._LAG_INTERVAL_S + 0.05)  # noqa: ASYNC251  # that it blocks is the point
    await until(lambda: count(lag.lags))
    lag.stop()
    assert 0.04 < sum_s(lag.lags) < 5
