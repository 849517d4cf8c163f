"""RESULT and RESULT_BLOCKING (commands.md §4.11; state-machine.md §2, §3)."""

from __future__ import annotations

import pytest

from storage.asking import Caller
from storage.errors import UserError
from storage.vocabulary import RESULT_COLUMNS, Binary, CachestoreAction, QueueClear, Result, SysCachestore
from tests.conformance.client import Asked
from tests.conformance.script import (
    MINUTE_MS,
    Do,
    GiveUp,
    Later,
    Script,
    Session,
    StillWaits,
    Tick,
    Wait,
    Woken,
    id_of,
    nth,
)
from tests.conformance.words import ack, add, cancel, result, result_blocking


def stored(path: str, value: str | bytes, number: int, external_id: str | None = None) -> tuple[Do, Do]:
    """The n-th item, added and acknowledged."""
    return Do(add(path, external_id=external_id), [(nth(number), True, 1)]), Do(ack(path, value), [(True,)])


RESULTS = [
    Script(
        "by path: one-shot",
        *stored("p:a", "r", 1),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
        Do(result("p:a"), []),
    ),
    Script(
        "by id: read many, also when a path reader took it",
        *stored("p:a", "r", 1),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), None)]),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), None)]),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), None)]),
    ),
    Script("unknown", Do(result("p:a"), []), Do(result(id_of(1)), []), Do(result("p:a", external_id="e"), [])),
    Script("unknown id with external id", Do(result(id_of(1), external_id="e"), [])),
    Script("an item has no result yet", Do(add("p:a"), [(nth(1), True, 1)]), Do(result("p:a"), [])),
    Script(
        "several results of a path: a path reader sees only the newest, once",
        *stored("p:a", "one", 1),
        *stored("p:a", "two", 2),
        Do(result("p:a"), [(b"two", b"success", nth(2), None)]),
        Do(result("p:a"), []),
        Do(result(id_of(1)), [(b"one", b"success", nth(1), None)]),
    ),
    Script(
        "the external id is given",
        *stored("p:a", "r", 1, "e"),
        Do(result("p:a"), [(b"r", b"success", nth(1), b"e")]),
    ),
    Script(
        "by external id and path: read many, whatever the flag",
        *stored("p:a", "r", 1, "e"),
        Do(result("p:a", external_id="e"), [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a", external_id="e"), [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a"), [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a", external_id="e"), [(b"r", b"success", nth(1), b"e")]),
    ),
    Script(
        "by external id and path: an older one is found",
        *stored("p:a", "one", 1, "e"),
        *stored("p:a", "two", 2, "f"),
        Do(result("p:a", external_id="e"), [(b"one", b"success", nth(1), b"e")]),
    ),
    Script(
        "by another external id: falls back to the path, once",
        *stored("p:a", "r", 1, "e"),
        Do(result("p:a", external_id="x"), [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a", external_id="x"), []),
        Do(result("p:a"), []),
    ),
    Script(
        "an external id is per path",
        *stored("p:a", "one", 1, "e"),
        *stored("p:b", "two", 2, "e"),
        Do(result("p:a", external_id="e"), [(b"one", b"success", nth(1), b"e")]),
        Do(result("p:b", external_id="e"), [(b"two", b"success", nth(2), b"e")]),
    ),
    Script(
        "by external id and id",
        *stored("p:a", "r", 1, "e"),
        Do(result(id_of(1), external_id="e"), [(b"r", b"success", nth(1), b"e")]),
        Do(
            result(id_of(1), external_id="x"),
            UserError(f'Queue result (id = {id_of(1)}) external_id mismatch: expected x, got Some("e")'),
        ),
    ),
    Script(
        "by external id and the id of a result without one",
        *stored("p:a", "r", 1),
        Do(
            result(id_of(1), external_id="e"),
            UserError(f"Queue result (id = {id_of(1)}) external_id mismatch: expected e, got None"),
        ),
    ),
    Script(
        "a quote in a stored external id is shown escaped",
        *stored("p:a", "r", 1, 'a"b\\c'),
        Do(
            result(id_of(1), external_id="x"),
            UserError(f'Queue result (id = {id_of(1)}) external_id mismatch: expected x, got Some("a\\"b\\\\c")'),
        ),
    ),
    Script(
        "a binary value stays binary",
        *stored("p:a", b"\x00\xff", 1),
        Do(result(id_of(1)), [(Binary(b"\x00\xff"), b"success", nth(1), None)]),
        Do(result("p:a"), [(Binary(b"\x00\xff"), b"success", nth(1), None)]),
    ),
    Script(
        "a result lives for 60 seconds, read or not",
        *stored("p:a", "r", 1),
        Later(MINUTE_MS - 1),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), None)]),
        Later(1),
        Do(result(id_of(1)), []),
        Do(result("p:a"), []),
        Wait("waiter", result_blocking(id_of(1))),
    ),
    Script(
        "an expired result by path",
        *stored("p:a", "r", 1, "e"),
        Later(MINUTE_MS),
        Do(result("p:a", external_id="e"), []),
        Do(result("p:a"), []),
    ),
    Script(
        "background work takes nothing early",
        *stored("p:a", "r", 1),
        Later(MINUTE_MS - 1),
        Tick(),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
    ),
]

BLOCKING = [
    Script(
        "by id without a timeout: a mere look",
        *stored("p:a", "r", 1),
        Do(result_blocking(id_of(1), 0), [(b"r", b"success", nth(1), None)]),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "by id, the result is there: at once, read many; then it is taken for path readers",
        *stored("p:a", "r", 1, "e"),
        Do(result_blocking(id_of(1)), [(b"r", b"success", nth(1), b"e")]),
        Do(result_blocking(id_of(1)), [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a"), []),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), b"e")]),
        Do(result_blocking(id_of(1)), [(b"r", b"success", nth(1), b"e")]),
    ),
    Script(
        "by id, woken by ACK; then it is taken for path readers",
        Do(add("p:a", external_id="e"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Wait("two", result_blocking(id_of(1))),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), b"e")]),
        Woken("two", [(b"r", b"success", nth(1), b"e")]),
        Do(result("p:a"), []),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), b"e")]),
    ),
    Script(
        "a timeout is no row",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Wait("two", result_blocking(id_of(1))),
        GiveUp("one"),
        Woken("one", []),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", []),
        Woken("two", [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "giving up after the answer changes nothing",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Do(ack("p:a", "r"), [(True,)]),
        GiveUp("one"),
        Woken("one", [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "ACK NULL while waiting: a row with NULL",
        Do(add("p:a", external_id="e"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Wait("two", result_blocking("p:a")),
        Do(ack(id_of(1), None), [(True,)]),
        Woken("one", [(None, b"success", nth(1), None)]),
        Woken("two", [(None, b"success", nth(1), None)]),
    ),
    Script(
        "ACK NULL before waiting: nothing to give",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", None), [(True,)]),
        Wait("one", result_blocking(id_of(1))),
        GiveUp("one"),
        Woken("one", []),
    ),
    Script(
        "an unknown id waits",
        Wait("one", result_blocking(id_of(1))),
        StillWaits("one"),
        GiveUp("one"),
        Woken("one", []),
    ),
    Script(
        "a waiter may come before its item",
        Wait("one", result_blocking(id_of(1))),
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "CANCEL and CLEAR wake nobody",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Wait("two", result_blocking("p:a")),
        Do(cancel("p:a"), [(b"{}", None)]),
        StillWaits("one"),
        Do(QueueClear(), []),
        StillWaits("one"),
        Do(SysCachestore(CachestoreAction.WIPE), []),
        StillWaits("one"),
        StillWaits("two"),
        Do(add("p:a"), [(nth(2), True, 1)]),
        Do(ack("p:a", "r"), [(True,)]),
        StillWaits("one"),
        Woken("two", [(b"r", b"success", nth(2), None)]),
    ),
    Script(
        "the ACK of another id wakes nobody",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(add("p:b"), [(nth(2), True, 2)]),
        Wait("one", result_blocking(id_of(1))),
        Do(ack("p:b", "r"), [(True,)]),
        Do(ack("p:c", "r"), [(False,)]),
        StillWaits("one"),
    ),
    Script(
        "by path, the result is there: like RESULT",
        *stored("p:a", "r", 1),
        Do(result_blocking("p:a"), [(b"r", b"success", nth(1), None)]),
        Wait("one", result_blocking("p:a")),
        Do(result("p:a"), []),
    ),
    Script(
        "by path, woken by the ACK of that path: the result is theirs alone",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking("p:a")),
        Wait("two", result_blocking("p:a")),
        Do(ack(id_of(1), "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), None)]),
        Woken("two", [(b"r", b"success", nth(1), None)]),
        Do(result("p:a"), []),
        Do(result(id_of(1)), []),
    ),
    Script(
        "by path and by id, woken together",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Wait("two", result_blocking("p:a")),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), None)]),
        Woken("two", [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "by path, waiting over an item that is not there yet",
        Wait("one", result_blocking("p:a")),
        Do(add("p:a"), [(nth(1), True, 1)]),
        StillWaits("one"),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "a binary value wakes as binary",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Wait("one", result_blocking(id_of(1))),
        Do(ack("p:a", b"\x00\xff"), [(True,)]),
        Woken("one", [(Binary(b"\x00\xff"), b"success", nth(1), None)]),
    ),
]


@pytest.mark.parametrize("script", RESULTS, ids=str)
def test_result(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize("script", BLOCKING, ids=str)
def test_result_blocking(session: Session, script: Script) -> None:
    session.play(script)


def test_the_end_of_all_waits(session: Session) -> None:
    session.wait("one", result_blocking(id_of(1)))
    session.wait("two", result_blocking("p:a"))
    session.store.end_waits(session.now_ms)
    assert session.answers_of("one") == [[]]
    assert session.answers_of("two") == [[]]


def test_a_waiter_says_how_long_it_waits(session: Session) -> None:
    assert session.wait("one", result_blocking(id_of(1), 12_345)).timeout_ms == 12_345


def test_a_waiter_may_ask_the_store_when_it_is_woken(session: Session) -> None:
    """The shell's callback may run a statement: the ACK is a whole by then."""
    session.rows(add("p:a"))
    asked: list[Asked] = []
    told = session.wait("one", result_blocking(id_of(1)))
    told.then = lambda _: asked.append(session.client.send(result(id_of(1)), Caller(), None, session.now_ms))
    session.rows(ack("p:a", "r"))
    session.client.settle()
    assert [session.client.answers(each) for each in asked] == [
        [Result(RESULT_COLUMNS, [(b"r", b"success", nth(1), None)])]
    ]
