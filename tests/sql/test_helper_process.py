"""The process that evaluates SELECTs: when it ends, what its client is told, and that the next SELECT is answered."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cubequeue_server.engines.sql import evaluator, helper_process
from cubequeue_server.engines.sql.evaluator import Evaluator
from cubequeue_server.requests.ask import Ask
from storage.asking import ANYBODY, Outcome
from storage.errors import UserError
from storage.memory import MemoryStore
from storage.system_tables import SystemTable
from storage.vocabulary import CacheSet, OtherSql, QueueAdd, Result, Row
from tests.sql.running import NOW_MS, STORED_MS, Running, begun

Make = Callable[..., Running]
ENDLESS = (
    "SELECT count(*) FROM system.queue a CROSS JOIN system.queue b CROSS JOIN system.queue c CROSS JOIN system.queue"
)
BACKTRACKING = "SELECT " + "date(" * 24 + "now()" + ")" * 24


def evaluator_of(world: Running) -> Evaluator:
    return world.engine._evaluator


def pid_of(world: Running) -> int:
    current = evaluator_of(world)._current
    assert current is not None
    return current.pid


def is_there(pid: int) -> bool:
    """Whether there is such a process; also true for one that has ended and was not waited for."""
    return Path(f"/proc/{pid}").exists()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.005)


def ended(world: Running) -> dict[str, int]:
    """How many processes were ended, by cause."""
    causes = ("time", "memory", "size", "given_up", "died", "failed")
    counts = {cause: getattr(world.counters, f"select_ended_{cause}") for cause in causes}
    return {cause: count for cause, count in counts.items() if count}


def is_evaluating(world: Running) -> bool:
    """Whether the process has all rows and is busy with them."""
    current = evaluator_of(world)._current
    return current is not None and current.is_busy and _state_of(current.pid) == "R"


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.fixture
def world(make: Make) -> Running:
    """A store with 1 000 items, of which a SELECT over four takes for ever."""
    world = make()
    fill(world)
    world.select("SELECT 1, 2")
    return world


def fill(world: Running) -> None:
    for number in range(1_000):
        world.store.execute(QueueAdd(b"many:%d" % number, b"x"), ANYBODY, None, STORED_MS)


def check_it_ended(world: Running, pid: int, cause: str, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """One line tells it, one number counts it, no zombie is left, and the next SELECT has a process of its own."""
    assert [record.getMessage() for record in caplog.records] == [
        f"the process that evaluates SELECTs was ended: {reason}"
    ]
    assert ended(world) == {cause: 1}
    assert world.select("SELECT count(*) FROM system.queue") == [(1_000,)]
    assert pid_of(world) != pid
    world.runner.run(until(lambda: not is_there(pid)))
    assert world.counters.select_helper_starts == 2


def test_a_select_past_its_time_is_ended(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make(time_limit_s=0.3)
    fill(world)
    world.select("SELECT 1, 2")
    pid = pid_of(world)
    text = "SELECT took longer than 0.3 s (CUBESTORE_QUERY_TIMEOUT)"
    with pytest.raises(UserError, match=r"^SELECT took longer") as error:
        world.select(ENDLESS)
    assert error.value.wire_text == text
    check_it_ended(world, pid, "time", caplog, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BACKTRACKING, "SELECT took longer than 0.5 s to parse"),
        ("SELECT count(*) FROM " + ", ".join(f"(SELECT 1{' UNION ALL SELECT 1' * 9}) t{n}" for n in range(12)),
         "SELECT without a table took longer than 0.5 s"),
    ],
    ids=["parsed", "evaluated"],
)  # fmt: skip
def test_a_text_past_its_time_is_ended(
    monkeypatch: pytest.MonkeyPatch, world: Running, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    pid = pid_of(world)
    monkeypatch.setattr(evaluator, "QUICK_LIMIT_S", 0.5)
    with pytest.raises(UserError) as error:
        world.select(text)
    assert error.value.wire_text == reason
    monkeypatch.undo()
    check_it_ended(world, pid, "time", caplog, reason)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT value || value AS v, value || value AS w FROM system.cache ORDER BY v",  # SQLite's own
        "SELECT " + "1, " * 80_000 + "1",  # the parser's
    ],
    ids=["rows", "tree"],
)
def test_memory_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, make: Make, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setattr(evaluator, "QUICK_LIMIT_S", 20.0)
    world = make(max_bytes=8 << 20)
    fill(world)
    for number in range(40):
        world.store.execute(CacheSet(b"%d" % number, b"%02d" % number * 250_000), ANYBODY, None, STORED_MS)
    world.select("SELECT 1, 2")
    pid = pid_of(world)
    reason = "SELECT needs too much memory: it may take 8 MiB of memory (CUBEQUEUE_SELECT_MAX_MEMORY)"
    with pytest.raises(UserError) as error:
        world.select(text)
    assert error.value.wire_text == reason
    check_it_ended(world, pid, "memory", caplog, reason)


def test_large_values_need_no_memory_of_it(make: Make) -> None:
    world = make(max_bytes=8 << 20)
    for number in range(100):
        world.store.execute(CacheSet(b"%02d" % number, b"%02d" % number * 250_000), ANYBODY, None, STORED_MS)
    assert world.select("SELECT count(*) FROM system.cache WHERE value LIKE '%99%'") == [(1,)]
    assert world.select("SELECT id, LENGTH(value) FROM system.cache ORDER BY 2 DESC, id DESC LIMIT 1") == [
        (b"99", 500_000)
    ]
    assert len(world.select("SELECT value FROM system.cache LIMIT 60")) == 60


def test_one_that_is_killed_while_it_evaluates(world: Running, caplog: pytest.LogCaptureFixture) -> None:
    pid = pid_of(world)

    async def kill_it() -> Outcome:
        _, outcome = begun(world.engine, OtherSql(ENDLESS.encode()))
        await until(lambda: is_evaluating(world))
        os.kill(pid, signal.SIGKILL)
        return await outcome

    assert str(world.runner.run(kill_it())) == (
        "SELECT was ended: the process that evaluates it died (signal 9). It may take 128 MiB of memory"
        " (CUBEQUEUE_SELECT_MAX_MEMORY)"
    )
    check_it_ended(world, pid, "died", caplog, "signal 9")


def test_one_that_is_killed_while_it_has_nothing_to_do(world: Running, caplog: pytest.LogCaptureFixture) -> None:
    pid = pid_of(world)
    os.kill(pid, signal.SIGKILL)
    world.runner.run(until(lambda: evaluator_of(world)._current is None))
    check_it_ended(world, pid, "died", caplog, "signal 9")


def test_one_that_is_killed_and_asked_at_once(world: Running) -> None:
    os.kill(pid_of(world), signal.SIGKILL)
    with pytest.raises(UserError, match="died"):
        world.select("SELECT 1, 2")
    assert world.select("SELECT 1, 2") == [(1, 2)]


def test_nobody_waits_for_what_is_evaluated(world: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pid = pid_of(world)

    async def give_up() -> Outcome:
        later, outcome = begun(world.engine, OtherSql(ENDLESS.encode()))
        assert later is not None
        await until(lambda: is_evaluating(world))
        world.engine.give_up(later, NOW_MS)
        world.engine.give_up(later, NOW_MS)
        return await outcome

    assert str(world.runner.run(give_up())) == "SELECT was ended: nobody waits for it"
    check_it_ended(world, pid, "given_up", caplog, "nobody waits for its SELECT any more")


def test_what_waits_for_its_turn_is_given_up_without_a_trace(world: Running) -> None:
    pid = pid_of(world)

    async def give_up() -> list[Outcome]:
        text = OtherSql(b"SELECT count(*) FROM system.queue a JOIN system.queue b ON a.id = b.id")
        first, second, third = (begun(world.engine, text) for _ in range(3))
        assert second[0] is not None
        await asyncio.sleep(0)
        world.engine.give_up(second[0], NOW_MS)
        world.engine.give_up(third[0], NOW_MS)  # type: ignore[arg-type]
        return [await each[1] for each in (first, second, third)]

    first, *others = world.runner.run(give_up())
    assert isinstance(first, Result)
    assert {str(other) for other in others} == {"SELECT was ended: nobody waits for it"}
    assert pid_of(world) == pid
    assert not ended(world)


def test_one_that_gives_up_while_the_process_starts_leaves_it_to_the_next(make: Make) -> None:
    world = make()

    async def give_up() -> list[Outcome]:
        first, second = (begun(world.engine, OtherSql(b"SELECT 1, 2")) for _ in range(2))
        await asyncio.sleep(0.01)
        world.engine.give_up(first[0], NOW_MS)  # type: ignore[arg-type]
        return [await first[1], await second[1]]

    first, second = world.runner.run(give_up())
    assert str(first) == "SELECT was ended: nobody waits for it"
    assert isinstance(second, Result)
    assert world.counters.select_helper_starts == 1


def test_clients_that_have_gone_are_noticed(monkeypatch: pytest.MonkeyPatch, world: Running) -> None:
    async def leave() -> Outcome:
        _, outcome = begun(world.engine, OtherSql(ENDLESS.encode()))
        world.engine.tick(NOW_MS, 100)
        await until(lambda: is_evaluating(world))
        world.engine.tick(NOW_MS, 100)
        assert not outcome.done()
        monkeypatch.setattr(Ask, "is_wanted", False)
        world.engine.tick(NOW_MS, 100)
        return await outcome

    monkeypatch.setattr(Ask, "is_wanted", True)
    assert str(world.runner.run(leave())) == "SELECT was ended: nobody waits for it"
    assert ended(world) == {"given_up": 1}


@pytest.mark.parametrize("is_started", [True, False])
def test_a_stop_ends_everything(make: Make, caplog: pytest.LogCaptureFixture, is_started: bool) -> None:
    before = _children()  # of engines of other tests in this process
    world = make()
    fill(world)
    if is_started:
        world.select("SELECT 1, 2")

    async def stop() -> list[Outcome]:
        outcomes = [begun(world.engine, OtherSql(text.encode()))[1] for text in (ENDLESS, "SELECT 1, 2")]
        await (until(lambda: is_evaluating(world)) if is_started else asyncio.sleep(0.01))
        helper = evaluator_of(world)._current
        world.engine.end_waits(NOW_MS)
        outcomes.append(begun(world.engine, OtherSql(b"SELECT 1, 2"))[1])
        if helper is not None:
            await helper.exited.wait()
        return [await outcome for outcome in outcomes]

    assert {str(outcome) for outcome in world.runner.run(stop())} == {"SELECT was ended: the server stops"}
    assert not caplog.records
    world.runner.run(until(lambda: _children() <= before))


def _children() -> set[str]:
    """The processes that evaluate SELECTs of this one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (path / "stat").read_text(), (path / "cmdline").read_text()
        except OSError:
            continue
        if stat.rpartition(") ")[2].split()[1] == str(os.getpid()) and helper_process._MODULE in command:
            found.add(path.name)
    return found


def test_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError, match=r"^SELECT cannot be evaluated: no process could be started for it$"):
        world.select("SELECT 1, 2")
    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert world.select("SELECT 1, 2") == [(1, 2)]


def test_it_ends_while_it_starts(monkeypatch: pytest.MonkeyPatch, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    monkeypatch.setattr(helper_process, "_COMMAND", "raise SystemExit(3)")
    with pytest.raises(UserError, match=r"^SELECT cannot be evaluated: no process could be started for it$"):
        world.select("SELECT 1, 2")
    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert world.select("SELECT 1, 2") == [(1, 2)]


class Watched:
    """A store that counts the slices of its tables that are read, and does something at the first one."""

    def __init__(self, store: MemoryStore, at_first: Callable[[], None]) -> None:
        self._store = store
        self._at_first = at_first
        self.slices = 0

    async def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        self._at_first()
        async for rows in self._store.read_table(table):
            self.slices += 1
            yield rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_rows_wait_for_a_process_that_does_not_read(make: Make) -> None:
    world = make()
    for number in range(50_000):
        world.store.execute(QueueAdd(b"many:%d" % number, b"x"), ANYBODY, None, STORED_MS)
    world.select("SELECT 1, 2")
    pid = pid_of(world)
    watched = Watched(world.store, lambda: os.kill(pid, signal.SIGSTOP))
    world.store = watched  # type: ignore[assignment]

    async def sent_to_one_that_sleeps() -> tuple[int, Outcome]:
        _, outcome = begun(world.engine, OtherSql(b"SELECT id, prefix FROM system.queue"))
        await until(lambda: watched.slices > 0)
        count = -1
        while count != watched.slices:  # it comes to a stand
            count = watched.slices
            await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGCONT)
        return count, await outcome

    slices, outcome = world.runner.run(sent_to_one_that_sleeps())
    assert slices < 500  # of 782, at a kilobyte each: what the two sockets and 64 KiB of a buffer take
    assert isinstance(outcome, Result)
    assert len(outcome.rows) == 50_000


SERVER = """
import sys, threading
from tests.sql.running import Running
from tests.sql.test_helper_process import fill, pid_of
world = Running()
fill(world)
world.select("SELECT 1, 2")
print(pid_of(world), flush=True)
if sys.argv[1]:
    world.select(sys.argv[1])
sys.stdin.read()
"""


@pytest.fixture(params=["", ENDLESS, BACKTRACKING], ids=["idle", "evaluating", "parsing"])
def server(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process with one that evaluates, which is idle or at work."""
    command = [sys.executable, "-c", SERVER, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_dies_with_the_server(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    time.sleep(0.2)
    assert is_there(pid)
    server.kill()
    server.wait()
    asyncio.run(until(lambda: not is_there(pid) or _state_of(pid) == "Z"))  # whoever adopts it may not wait for it


def test_it_goes_without_what_it_does_not_need(world: Running) -> None:
    """Its memory is bounded as a whole, it yields to the server, and no signal of a terminal reaches it."""
    pid = pid_of(world)
    limits = Path(f"/proc/{pid}/limits").read_text()
    address_space = next(line for line in limits.splitlines() if line.startswith("Max address space")).split()[3]
    assert (128 << 20) < int(address_space) < (400 << 20)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    assert os.getsid(pid) == pid
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 3  # the channel, and two that lead nowhere
