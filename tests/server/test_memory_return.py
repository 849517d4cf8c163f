"""When freed memory is given back, and that it is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cubequeue_server import memory_return
from cubequeue_server.memory_return import MemoryReturn

MIB = 1 << 20


class Process:
    """What it holds, what it takes, and what of that a trim gives back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.held = self.taken = 0
        self.free = 0
        self.takes_s = 0.0
        monkeypatch.setattr(memory_return, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.returning = MemoryReturn(lambda: self.held, lambda: self.taken, self.trim)

    def trim(self) -> None:
        self.now_s += self.takes_s
        self.taken -= self.free
        self.free = 0

    def grow(self, size: int) -> None:
        self.held += size
        self.taken += size

    def drop(self, size: int) -> None:
        self.held -= size

    def look(self) -> bool:
        """Whether it was due, and so done."""
        self.now_s += 1
        is_due = self.returning.is_due()
        if is_due:
            self.returning.run()
        return is_due


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def test_nothing_was_freed(process: Process) -> None:
    for _ in range(20):
        process.grow(100 * MIB)
        assert not process.look()


def test_what_is_dropped_little_by_little_is_trimmed_until_nothing_comes_back(process: Process) -> None:
    process.grow(400 * MIB)
    process.look()
    process.drop(400 * MIB)
    for _ in range(10):
        process.free = 40 * MIB
        assert process.look()
    assert process.look(), "to see that nothing comes back any more"
    assert not process.look()
    assert process.taken == 0


@pytest.mark.parametrize(("freed", "is_due"), [(16 * MIB - 1, False), (16 * MIB, True)])
def test_a_little_is_not_worth_it(process: Process, freed: int, is_due: bool) -> None:
    process.grow(400 * MIB)
    process.look()
    process.drop(freed)
    assert process.look() is is_due


@pytest.mark.parametrize(("taken", "is_due"), [(32 * MIB - 1, False), (32 * MIB, True)])
def test_what_is_taken_and_not_held_is_trimmed(process: Process, taken: int, is_due: bool) -> None:
    process.taken += taken
    assert [process.look() for _ in range(5)] == [False] * 4 + [is_due]


def test_what_messages_under_way_take_for_a_moment_is_not(process: Process) -> None:
    for _ in range(10):
        process.taken += 200 * MIB
        assert not any(process.look() for _ in range(4))
        process.taken -= 200 * MIB
        assert not process.look()


def test_a_long_trim_is_followed_by_a_long_rest(process: Process) -> None:
    process.takes_s = 0.5
    process.grow(200 * MIB)
    process.look()
    process.drop(100 * MIB)
    assert process.look()
    process.drop(100 * MIB)
    assert not any(process.look() for _ in range(49))
    assert process.look()


async def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_return, "_INTERVAL_S", 0.01)
    held, trimmed = [100 * MIB], asyncio.Event()
    loop = asyncio.get_running_loop()
    returning = MemoryReturn(lambda: held[0], lambda: 0, lambda: loop.call_soon_threadsafe(trimmed.set))
    returning.start()
    held[0] = 0
    await asyncio.wait_for(trimmed.wait(), 30)
    returning.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux") or not Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory_comes_back() -> None:
    """In a process of its own: this one has free memory of other tests."""
    subprocess.run([sys.executable, "-c", _COMES_BACK], check=True, timeout=60)


_COMES_BACK = """
from cubequeue_server.memory_return import taken_bytes, trim_heap
MIB = 1 << 20
before = taken_bytes()
values = {number: b"%d" % number * 1000 for number in range(50_000)}
kept = bytes(2000)
assert taken_bytes() > before + 100 * MIB
values.clear()
trim_heap()
assert taken_bytes() < before + 30 * MIB
"""
