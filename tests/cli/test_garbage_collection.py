"""Garbage collection while a server runs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from cubequeue_server import garbage_collection
from cubequeue_server.garbage_collection import GarbageCollection


@pytest.fixture(autouse=True)
def _restore_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.parametrize(("rows", "collected"), [(0, True), (5_000, True), (5_001, False)])
def test_full_collections_run_only_while_there_is_little_to_visit(
    monkeypatch: pytest.MonkeyPatch, rows: int, collected: bool
) -> None:
    monkeypatch.setattr(garbage_collection, "_INTERVAL_S", 0.01)
    full: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            full.append(1)

    async def scenario() -> None:
        running = GarbageCollection(lambda: {"queue_items": rows, "cache_bytes": 1 << 40})
        running.start()
        gc.callbacks.append(count)
        await asyncio.sleep(0.1)
        running.stop()

    try:
        asyncio.run(scenario())
    finally:
        gc.callbacks.remove(count)
    assert bool(full) == collected


def test_what_a_start_leaves_is_frozen_and_the_automatic_full_collection_is_off() -> None:
    async def scenario() -> None:
        running = GarbageCollection(dict)
        running.start()
        running.stop()

    asyncio.run(scenario())
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[2] >= 1_000_000
