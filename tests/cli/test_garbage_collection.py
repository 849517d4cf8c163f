"""Garbage collection while a server runs."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Iterator

import pytest

from cubequeue_server import garbage_collection
from cubequeue_server.garbage_collection import GarbageCollection
from tests.cli.running import serving


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


_NO_THREAD = """
import gc, sys, threading, time
import cubequeue_server.process as process
from cubequeue_server.cli import main

start = threading.Thread.start

def fail(thread):
    if thread.name == "late-imports":
        raise RuntimeError("can't start new thread")
    start(thread)

{patch}
announce = process._Process._import_the_rest

def then_tell(self):
    announce(self)
    import asyncio
    loop = asyncio.get_running_loop()
    def tell():
        if gc.isenabled():
            print("collecting", flush=True)
        else:
            loop.call_later(0.05, tell)
    loop.call_soon(tell)

process._Process._import_the_rest = then_tell
main()
"""


@pytest.mark.parametrize(
    ("patch", "error", "code"),
    [
        (
            "threading.Thread.start = fail",
            "can't start new thread: metrics and the live page are loaded without one",
            200,
        ),
        ("sys.modules['cubequeue_server.observe.pages'] = None", "metrics and the live page could not be loaded", 404),
    ],
    ids=["no thread", "no module"],
)
def test_garbage_is_collected_even_if_late_parts_cannot_be_loaded(patch: str, error: str, code: int) -> None:
    """It stayed off for good, and requests for pages waited for ever."""
    command = (sys.executable, "-c", _NO_THREAD.format(patch=patch))
    with serving("--log-format", "json", command=command) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "collecting\n"
        assert server.get("/metrics")[0] == code
        _, _, errors = server.end(signal.SIGTERM)
    [entry] = [each for line in errors.splitlines() if (each := json.loads(line))["level"] == "error"]
    assert entry["message"] == error
