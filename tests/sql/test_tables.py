"""SELECTs over system.queue, system.queue_results and system.cache (commands.md §7)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from cubequeue_server.engines.sql import engine as sql_engine
from cubequeue_server.engines.sql import evaluator
from storage.asking import ANYBODY, Outcome
from storage.errors import InternalError, StatementError, UserError
from storage.vocabulary import Binary, CacheSet, Cell, QueueAdd, Result
from tests.sql.running import STORED_MS, Running

Make = Callable[..., Running]


@pytest.fixture
def world(running: Running) -> Running:
    world = running
    world.empty()
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
        (STORED_MS, STORED_MS, None),
        (STORED_MS, None, STORED_MS + 60_000),
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
    "SELECT * FROM system.cache": [(b"k", b"c", STORED_MS + 60_000, b"v1"), (b"k2", None, None, b"v2")],
    "SELECT c.* FROM system.cache c WHERE c.expire IS NULL": [(b"k2", None, None, b"v2")],
    "SELECT CAST(expire AS VARCHAR) FROM system.cache WHERE id = 'k'": [(b"2023-11-14T22:14:20.000Z",)],
    "SELECT count(*) FROM system.queue CROSS JOIN information_schema.tables": [(0,)],
    "SELECT exclusive, process_id, external_id FROM system.queue LIMIT 1": [(False, None, None)],
    "SELECT `id` FROM `system`.`cache` -- comment": [(b"k",), (b"k2",)],
}


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(world: Running, text: str) -> None:
    assert world.select(text) == ANSWERS[text]


def test_the_columns_of_a_star_have_their_types_and_their_order(world: Running) -> None:
    columns = world.execute("SELECT * FROM system.queue").columns
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
        "number Int",
        "claimed Timestamp",
        "added_peer String",
    ]


def test_parameters_are_bound(world: Running) -> None:
    assert world.select("SELECT id FROM system.queue WHERE prefix = ? AND priority > ?", b"p", 0) == [(b"a",)]


def test_a_bare_value_is_the_one_that_is_kept_whatever_its_size(world: Running) -> None:
    value = b"x" * 17_000_000
    world.store.execute(CacheSet(b"large", value), ANYBODY, None, STORED_MS)
    (row,) = world.select("SELECT value FROM system.cache WHERE id = 'large'")
    assert row[0] is value
    with pytest.raises(UserError, match="too big"):
        world.select("SELECT LENGTH(value) FROM system.cache WHERE id = 'large'")


def test_binary_values_stay_binary_and_read_as_digits(world: Running) -> None:
    world.store.execute(CacheSet(b"bin", Binary(b"\xff\x00")), ANYBODY, None, STORED_MS)
    (row,) = world.select("SELECT value FROM system.cache WHERE id = 'bin'")
    assert isinstance(row[0], Binary)
    assert world.select("SELECT id FROM system.cache WHERE value LIKE '0xFF%'") == [(b"bin",)]


def test_binary_values_read_as_digits_beside_texts_which_stay_texts(world: Running) -> None:
    world.store.execute(CacheSet(b"bin", Binary(b"\xff\x00")), ANYBODY, None, STORED_MS)
    world.store.execute(CacheSet(b"text", b"plain"), ANYBODY, None, STORED_MS)
    rows = world.select("SELECT id, value FROM system.cache WHERE id IN ('bin', 'text')")
    assert sorted(rows) == [(b"bin", b"0xFF00"), (b"text", b"plain")]
    assert {type(value) for _, value in rows} == {bytes}


REFUSED: dict[str, tuple[type[StatementError], str]] = {
    "SELECT nothing FROM system.queue": (UserError, "Column 'nothing' could not be resolved"),
    "SELECT * FROM system.nothing": (UserError, "Table system.nothing was not found"),
    "SELECT id FROM system.queue WHERE": (InternalError, "ParserError"),
    "SELECT id / 0 FROM system.queue_results": (UserError, "Divide by zero error"),
    "SELECT id FROM result": (UserError, "Table result was not found"),
    "SELECT c0 FROM system.queue": (UserError, "Column 'c0' could not be resolved"),
    "DELETE FROM system.queue": (UserError, "DELETE FROM is not supported"),
    "INSERT INTO system.queue VALUES (1)": (UserError, "INSERT INTO is not supported"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_done_is_told(world: Running, text: str) -> None:
    kind, reason = REFUSED[text]
    with pytest.raises(kind, match=reason):
        world.select(text)
    assert world.select("SELECT count(*) FROM system.queue") == [(4,)]


def add(world: Running, count: int) -> None:
    for number in range(count):
        world.store.execute(QueueAdd(b"many:%d" % number, b"x"), ANYBODY, None, STORED_MS)


@pytest.mark.parametrize(("limit", "is_refused"), [(9, True), (10, False)])
def test_the_rows_of_a_result_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, make: Make, limit: int, is_refused: bool
) -> None:
    monkeypatch.setattr(evaluator, "MAX_ROWS", limit)
    world = make()
    add(world, 10)
    if is_refused:
        with pytest.raises(UserError, match="more than 9 rows is not supported, ask for fewer with LIMIT"):
            world.select("SELECT id FROM system.queue")
    else:
        assert len(world.select("SELECT id FROM system.queue")) == 10


@pytest.mark.parametrize("column", ["value", "value || 'x' AS v"])
def test_the_bytes_of_a_result_have_a_limit(monkeypatch: pytest.MonkeyPatch, world: Running, column: str) -> None:
    monkeypatch.setattr(evaluator, "MAX_RESULT_BYTES", 2_000)
    for number in range(3):
        world.store.execute(CacheSet(b"large:%d" % number, b"x" * 950), ANYBODY, None, STORED_MS)
    text = f"SELECT {column} FROM system.cache WHERE prefix = 'large' LIMIT "
    assert len(world.select(text + "2")) == 2
    with pytest.raises(UserError, match="SELECT of more than 2000 bytes is not supported, ask for fewer columns"):
        world.select(text + "3")
    assert len(world.select(text + "2")) == 2


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch, world: Running) -> None:
    monkeypatch.setattr(sql_engine, "_MAX_WAITING", 3)

    async def four() -> list[Outcome]:
        return await asyncio.gather(*(world.outcome("SELECT count(*) FROM system.queue") for _ in range(4)))

    outcomes = world.runner.run(four())
    assert [isinstance(outcome, Result) for outcome in outcomes] == [True, True, True, False]
    assert str(outcomes[3]) == "3 SELECTs wait to be evaluated already"


def test_rows_that_change_while_they_are_read(world: Running) -> None:
    world.empty()
    add(world, 5_000)

    async def read_and_change() -> tuple[Outcome, int]:
        select = asyncio.create_task(world.outcome("SELECT id FROM system.queue WHERE prefix = 'many'"))
        changes = 0
        while not select.done():
            await asyncio.sleep(0)
            world.run(f"QUEUE CANCEL 'many:{4_999 - changes}'", f"QUEUE ADD 'new:{changes}' 'x'")
            changes += 1
        return await select, changes

    outcome, changes = world.runner.run(read_and_change())
    assert isinstance(outcome, Result)
    ids = [int(row[0]) for row in outcome.rows]  # type: ignore[arg-type]
    assert changes > 10
    assert 5_000 - changes <= len(ids) <= 5_000
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    "text",
    [
        "DESCRIBE system.queue",
        "desc `system`.`queue`;",
        "SHOW COLUMNS FROM system.queue",
        "show full fields in system . queue",
    ],
)
def test_a_table_can_be_described(world: Running, text: str) -> None:
    result = world.execute(text)
    assert [row[:2] for row in result.rows][:3] == [(b"id", b"text"), (b"prefix", b"text"), (b"created", b"timestamp")]
    assert len(result.rows) == 17


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
def test_who_means_one_of_the_tables_is_told_its_name(world: Running, name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"^Table {name} was not found: {re.escape(hint)}"):
        world.execute(f"SELECT * FROM {name}")


@pytest.mark.parametrize(
    "text", ["DESCRIBE orders", "DESCRIBE system.nothing", "DESC system.queue x", "SHOW COLUMNS FROM a"]
)
def test_what_is_not_here_is_not_described(world: Running, text: str) -> None:
    with pytest.raises(UserError):
        world.execute(text)
