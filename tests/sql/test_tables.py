"""SELECTs over system.queue, system.queue_results and system.cache (commands.md §7)."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import time

import pytest

from cubequeue_server.engines.sql import table_database, table_selects
from cubequeue_server.engines.sql.engine import SqlEngine
from protocol.commands import parse_statement
from storage.asking import ANYBODY, Later, Outcome
from storage.errors import InternalError, StatementError, UserError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Binary, CacheSet, Cell, OtherSql, QueueAdd, Result
from tests.asking import Told

NOW_MS = 1_700_000_000_000


class Waited(Later):
    """A request that can be waited for. Made in a running loop."""

    __slots__ = ("told",)

    def __init__(self, timeout_ms: int | None) -> None:
        super().__init__(timeout_ms)
        self.told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(self, outcome: Outcome) -> None:
        self.told.set_result(outcome)


class World:
    """A store with a few rows, and an engine over it."""

    def __init__(self, time_limit_s: float = 120.0) -> None:
        self.store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 100, random.Random(7).random, Told)
        self.engine = SqlEngine(Waited, self.store, time_limit_s)

    def run(self, *texts: str) -> None:
        for text in texts:
            self.store.execute(parse_statement(text.encode(), ()), ANYBODY, None, NOW_MS)

    async def outcome(self, text: str, *parameters: Cell) -> Outcome:
        try:
            answer = self.engine.execute(OtherSql(text.encode(), parameters), ANYBODY, None, NOW_MS)
        except StatementError as error:
            return error
        if isinstance(answer, Result):
            return answer
        assert isinstance(answer, Waited)
        return await answer.told

    def select(self, text: str, *parameters: Cell) -> list[tuple[Cell, ...]]:
        async def bounded() -> Outcome:
            async with asyncio.timeout(20):
                return await self.outcome(text, *parameters)

        outcome = asyncio.run(bounded())
        if isinstance(outcome, StatementError):
            raise outcome
        assert isinstance(outcome, Result)
        return list(outcome.rows)


@pytest.fixture
def world() -> World:
    world = World()
    world.run("QUEUE ADD PRIORITY 5 'p:a' 'payload a'", "QUEUE ADD PRIORITY -1 ORPHANED 60 'p:b' 'payload b'")
    world.run("QUEUE ADD 'q:r:c' 'payload c'", "QUEUE ADD 'bare' 'payload'", "QUEUE ADD 'p:done' 'x'")
    world.run("QUEUE RETRIEVE 'p:a'", "QUEUE MERGE_EXTRA 'p:a' '{\"x\":1}'", "QUEUE ACK 'p:done' 'result'")
    world.run("CACHE SET TTL 60 'c:k' 'v1'", "CACHE SET 'k2' 'v2'")
    return world


ANSWERS: dict[str, list[tuple[Cell, ...]]] = {
    "SELECT count(*) FROM system.queue": [(4,)],
    "SELECT COUNT(*) AS n FROM SYSTEM.QUEUE WHERE Status = 'Pending'": [(3,)],
    "SELECT id, prefix, status, priority, extra FROM system.queue ORDER BY priority DESC, id": [
        (b"a", b"p", b"Active", 5, b'{"x":1}'),
        (b"bare", None, b"Pending", 0, None),
        (b"c", b"q:r", b"Pending", 0, None),
        (b"b", b"p", b"Pending", -1, None),
    ],
    "SELECT prefix, status, count(*) AS n, max(priority) FROM system.queue GROUP BY prefix, status ORDER BY n, 1": [
        (None, b"Pending", 1, 0),
        (b"p", b"Active", 1, 5),
        (b"p", b"Pending", 1, -1),
        (b"q:r", b"Pending", 1, 0),
    ],
    "SELECT prefix, count(*) FROM system.queue GROUP BY prefix HAVING count(*) > 1": [(b"p", 2)],
    "SELECT id FROM system.queue ORDER BY id LIMIT 2 OFFSET 1": [(b"b",), (b"bare",)],
    "SELECT id FROM system.queue WHERE orphaned IS NOT NULL": [(b"b",)],
    "SELECT created, heartbeat, orphaned FROM system.queue WHERE id IN ('a', 'b')": [
        (NOW_MS, NOW_MS, None),
        (NOW_MS, None, NOW_MS + 60_000),
    ],
    "SELECT id FROM system.queue WHERE created <= '2023-11-14T22:13:20Z' AND priority < 0": [(b"b",)],
    "SELECT id FROM system.queue WHERE created > NOW()": [],
    "SELECT value FROM system.queue WHERE id = 'a'": [(b"payload a",)],
    "SELECT id FROM system.queue WHERE value LIKE '%load b'": [(b"b",)],
    "SELECT LENGTH(value) AS n FROM system.queue WHERE value = 'payload c'": [(9,)],
    "SELECT value AS v FROM system.queue ORDER BY v DESC LIMIT 2": [(b"payload c",), (b"payload b",)],
    "SELECT value, id FROM system.queue ORDER BY value LIMIT 1": [(b"payload", b"bare")],
    "SELECT value, id FROM system.queue ORDER BY 1 LIMIT 1": [(b"payload", b"bare")],
    "SELECT DISTINCT value FROM system.queue WHERE prefix = 'p'": [(b"payload a",), (b"payload b",)],
    "SELECT extra, count(*) FROM system.queue GROUP BY extra ORDER BY 2": [(b'{"x":1}', 1), (None, 3)],
    "SELECT max(value) FROM system.queue": [(b"payload c",)],
    "SELECT COALESCE(extra, 'none') FROM system.queue WHERE prefix = 'p'": [(b'{"x":1}',), (b"none",)],
    "SELECT extra IS NULL FROM system.queue WHERE prefix = 'p'": [(False,), (True,)],
    "SELECT value FROM system.queue UNION ALL SELECT value FROM system.cache ORDER BY 1 LIMIT 2": [
        (b"payload",),
        (b"payload a",),
    ],
    "(SELECT value FROM system.cache)": [(b"v1",), (b"v2",)],
    "SELECT v FROM (SELECT value AS v FROM system.cache) t WHERE v > 'v1'": [(b"v2",)],
    "WITH c AS (SELECT id, value FROM system.cache) SELECT value, id FROM c ORDER BY id": [
        (b"v1", b"k"),
        (b"v2", b"k2"),
    ],
    "SELECT q.id, s.value FROM system.queue q JOIN system.cache s ON q.priority < 0 AND s.prefix = 'c'": [
        (b"b", b"v1")
    ],
    "SELECT a.id, b.id FROM system.queue a JOIN system.queue b ON a.prefix = b.prefix AND a.id < b.id": [(b"a", b"b")],
    "SELECT q.id FROM system.queue q LEFT JOIN system.queue_results r ON r.path = q.id WHERE r.id IS NULL LIMIT 1": [
        (b"a",)
    ],
    "SELECT id FROM system.queue WHERE id IN (SELECT id FROM system.cache)": [],
    "SELECT (SELECT count(*) FROM system.cache) AS n, count(*) FROM system.queue": [(2, 4)],
    "SELECT id, path, deleted, value, external_id FROM system.queue_results": [
        (104, b"p:done", False, b"result", None)
    ],
    "SELECT * FROM system.cache": [(b"k", b"c", NOW_MS + 60_000, b"v1"), (b"k2", None, None, b"v2")],
    "SELECT c.* FROM system.cache c WHERE c.expire IS NULL": [(b"k2", None, None, b"v2")],
    "SELECT CAST(expire AS VARCHAR) FROM system.cache WHERE id = 'k'": [(b"2023-11-14T22:14:20.000Z",)],
    "SELECT count(*) FROM system.queue CROSS JOIN information_schema.tables": [(0,)],
    "SELECT exclusive, process_id, external_id FROM system.queue LIMIT 1": [(False, None, None)],
    "SELECT `id` FROM `system`.`cache` -- comment": [(b"k",), (b"k2",)],
}


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(world: World, text: str) -> None:
    assert world.select(text) == ANSWERS[text]


def test_the_columns_of_a_star_have_their_types_and_their_order(world: World) -> None:
    outcome = asyncio.run(world.outcome("SELECT * FROM system.queue"))
    assert isinstance(outcome, Result)
    columns = outcome.columns
    assert [f"{name} {type_.value}" for name, type_ in zip(columns.names, columns.types, strict=True)] == [
        "id String",
        "prefix String",
        "created Timestamp",
        "status String",
        "priority Int",
        "heartbeat Timestamp",
        "orphaned Timestamp",
        "value String",
        "extra String",
        "process_id String",
        "exclusive Boolean",
        "external_id String",
        "claimed_by String",
        "claimed_peer String",
    ]


def test_parameters_are_bound(world: World) -> None:
    assert world.select("SELECT id FROM system.queue WHERE prefix = ? AND priority > ?", b"p", 0) == [(b"a",)]


def test_a_bare_value_is_the_one_that_is_kept_whatever_its_size(world: World) -> None:
    value = b"x" * 17_000_000
    world.store.execute(CacheSet(b"large", value), ANYBODY, None, NOW_MS)
    (row,) = world.select("SELECT value FROM system.cache WHERE id = 'large'")
    assert row[0] is value
    with pytest.raises(UserError, match="too big"):
        world.select("SELECT LENGTH(value) FROM system.cache WHERE id = 'large'")


def test_binary_values_stay_binary_and_read_as_digits(world: World) -> None:
    world.store.execute(CacheSet(b"bin", Binary(b"\xff\x00")), ANYBODY, None, NOW_MS)
    (row,) = world.select("SELECT value FROM system.cache WHERE id = 'bin'")
    assert isinstance(row[0], Binary)
    assert world.select("SELECT id FROM system.cache WHERE value LIKE '0xFF%'") == [(b"bin",)]


REFUSED: dict[str, tuple[type[StatementError], str]] = {
    "SELECT nothing FROM system.queue": (UserError, "Column nothing was not found"),
    "SELECT * FROM system.nothing": (UserError, "Table system.nothing was not found"),
    "SELECT id FROM system.queue WHERE": (InternalError, "ParserError"),
    "SELECT id / 0 FROM system.queue_results": (UserError, "Divide by zero error"),
    "SELECT id FROM result": (UserError, "Table result was not found"),
    "SELECT c0 FROM system.queue": (UserError, "Column c0 was not found"),
    "DELETE FROM system.queue": (UserError, "DELETE FROM is not supported"),
    "INSERT INTO system.queue VALUES (1)": (UserError, "INSERT INTO is not supported"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_done_is_told(world: World, text: str) -> None:
    kind, reason = REFUSED[text]
    with pytest.raises(kind, match=reason):
        world.select(text)
    assert world.select("SELECT count(*) FROM system.queue") == [(4,)]


def add(world: World, count: int) -> None:
    for number in range(count):
        world.store.execute(QueueAdd(b"many:%d" % number, b"x"), ANYBODY, None, NOW_MS)


def test_a_select_past_its_time_is_ended_and_the_next_one_is_answered() -> None:
    world = World(time_limit_s=0.3)
    add(world, 3_000)
    start = time.monotonic()
    with pytest.raises(UserError, match="SELECT took longer than 300 ms"):
        world.select("SELECT count(*) FROM system.queue a CROSS JOIN system.queue b CROSS JOIN system.queue c")
    assert time.monotonic() - start < 5
    assert world.select("SELECT count(*) FROM system.queue") == [(3_000,)]


@pytest.mark.parametrize(("limit", "is_refused"), [(9, True), (10, False)])
def test_the_rows_of_a_result_have_a_limit(monkeypatch: pytest.MonkeyPatch, limit: int, is_refused: bool) -> None:
    monkeypatch.setattr(table_database, "MAX_ROWS", limit)
    world = World()
    add(world, 10)
    if is_refused:
        with pytest.raises(UserError, match="more than 9 rows is not supported, ask for fewer with LIMIT"):
            world.select("SELECT id FROM system.queue")
    else:
        assert len(world.select("SELECT id FROM system.queue")) == 10


def test_the_memory_has_a_limit() -> None:
    world = World()
    for number in range(100):
        world.store.execute(CacheSet(b"%d" % number, b"%02d" % number * 250_000), ANYBODY, None, NOW_MS)
    with pytest.raises(UserError, match="SELECT needs too much memory"):
        world.select("SELECT value || value AS v, value || value AS w FROM system.cache ORDER BY v")
    assert world.select("SELECT count(*) FROM system.cache") == [(100,)]


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_selects, "_MAX_WAITING", 3)
    world = World()

    async def four() -> list[Outcome]:
        return await asyncio.gather(*(world.outcome("SELECT count(*) FROM system.queue") for _ in range(4)))

    outcomes = asyncio.run(four())
    assert [isinstance(outcome, Result) for outcome in outcomes] == [True, True, True, False]
    assert str(outcomes[3]) == "3 SELECTs wait to be evaluated already"


def test_a_stop_ends_what_is_evaluated_and_what_waits() -> None:
    world = World()
    add(world, 3_000)

    async def stopped() -> list[Outcome]:
        slow = "SELECT count(*) FROM system.queue a CROSS JOIN system.queue b CROSS JOIN system.queue c"
        both = asyncio.gather(world.outcome(slow), world.outcome("SELECT count(*) FROM system.cache"))
        await asyncio.sleep(0.2)
        world.engine.stop()
        return [*await both, await world.outcome("SELECT count(*) FROM system.cache")]

    start = time.monotonic()
    assert {str(outcome) for outcome in asyncio.run(stopped())} == {"SELECT was ended: the server stops"}
    assert time.monotonic() - start < 5


def test_rows_that_change_while_they_are_read() -> None:
    world = World()
    add(world, 5_000)

    async def read_and_change() -> tuple[Outcome, int]:
        select = asyncio.create_task(world.outcome("SELECT id FROM system.queue WHERE prefix = 'many'"))
        changes = 0
        while not select.done():
            await asyncio.sleep(0)
            world.run(f"QUEUE CANCEL 'many:{4_999 - changes}'", f"QUEUE ADD 'new:{changes}' 'x'")
            changes += 1
        return await select, changes

    outcome, changes = asyncio.run(read_and_change())
    assert isinstance(outcome, Result)
    ids = [int(row[0]) for row in outcome.rows]  # type: ignore[arg-type]
    assert changes > 10
    assert 5_000 - changes <= len(ids) <= 5_000
    assert ids == sorted(set(ids))


def test_without_tables_there_is_an_error() -> None:
    with pytest.raises(UserError, match="no tables to read"):
        SqlEngine(Told).execute(OtherSql(b"SELECT 1 FROM system.cache"), ANYBODY, None, NOW_MS)


def test_the_memory_of_an_evaluation_is_bounded() -> None:
    # In a process of its own: the bound is SQLite's, of a process, and never rises.
    script = (
        "from cubequeue_server.engines.sql.database import Database\n"
        "from storage.errors import UserError\n"
        "database = Database(1 << 20, 60.0)\n"
        "database.start_clock()\n"
        "try:\n"
        "    database.execute(\"SELECT length(replace(hex(zeroblob(1000000)), '0', 'xx'))\", {}).fetchall()\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "SELECT needs too much memory\n", done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "DESCRIBE system.queue",
        "desc `system`.`queue`;",
        "SHOW COLUMNS FROM system.queue",
        "show full fields in system . queue",
    ],
)
def test_a_table_can_be_described(text: str) -> None:
    result = World().engine.execute(OtherSql(text.encode()), ANYBODY, None, NOW_MS)
    assert isinstance(result, Result)
    assert [row[:2] for row in result.rows][:3] == [(b"id", b"text"), (b"prefix", b"text"), (b"created", b"timestamp")]
    assert len(result.rows) == 14


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("queue", "did you mean system.queue?"),
        ("system.queues", "did you mean system.queue?"),
        ("queue_result", "did you mean system.queue_results?"),
        ("dev.queue", "cubequeue keeps Cube's queue and cache only"),
        ("orders", "cubequeue keeps Cube's queue and cache only"),
    ],
)
def test_who_means_one_of_the_tables_is_told_its_name(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"^Table {name} was not found: {re.escape(hint)}"):
        World().engine.execute(OtherSql(f"SELECT * FROM {name}".encode()), ANYBODY, None, NOW_MS)


@pytest.mark.parametrize(
    "text", ["DESCRIBE orders", "DESCRIBE system.nothing", "DESC system.queue x", "SHOW COLUMNS FROM a"]
)
def test_what_is_not_here_is_not_described(text: str) -> None:
    with pytest.raises(UserError):
        World().engine.execute(OtherSql(text.encode()), ANYBODY, None, NOW_MS)
