"""Kept answers: a request that is sent again is never executed twice (wire.md §3; decisions, "De-duplication")."""

from __future__ import annotations

import pytest

from storage.errors import InternalError, UserError
from storage.limits import AnswerLimits, QueueLimits
from storage.vocabulary import CachestoreAction, QueueClear, RequestKey, Statement, SysCachestore
from tests.audit import audit
from tests.conformance.conftest import Opener
from tests.conformance.engines import Limits
from tests.conformance.script import MINUTE_MS, Do, Later, Script, Session, Tick, Wait, Woken, id_of, nth
from tests.conformance.words import (
    ack,
    add,
    add_and_retrieve,
    cache_get,
    cache_set,
    cancel,
    get,
    incr,
    list_all,
    result,
    result_blocking,
    retrieve,
)

KEY = (b"", b"connection", 1)
KEEP_MS = 5 * MINUTE_MS
KEEP_UNDELIVERED_MS = 10 * MINUTE_MS

ADDED = Do(add("p:a", "1"), [(nth(1), True, 1)])
COUNTED = Do(incr("p:n"), [(b"1",)], key=KEY)

ANSWERS = [
    Script("INCR", COUNTED, COUNTED, Do(cache_get("p:n"), [(b"1",)])),
    Script("without a key everything is executed", Do(incr("p:n"), [(b"1",)]), Do(incr("p:n"), [(b"2",)])),
    Script("another message", COUNTED, Do(incr("p:n"), [(b"2",)], key=(b"", b"connection", 2))),
    Script("another connection", COUNTED, Do(incr("p:n"), [(b"2",)], key=(b"", b"other", 1))),
    Script("another user", COUNTED, Do(incr("p:n"), [(b"2",)], key=(b"user", b"connection", 1))),
    Script(
        "ADD",
        Do(add("p:a", "1"), [(nth(1), True, 1)], key=KEY),
        Do(cancel("p:a"), [(b"1", None)]),
        Do(add("p:a", "1"), [(nth(1), True, 1)], key=KEY),
        Do(list_all("p"), []),
    ),
    Script(
        "ADD_AND_RETRIEVE gives the payload again",
        Do(add_and_retrieve("p:a", "1"), [(nth(1), True, 0, b"a", b"1", None)], key=KEY),
        Do(add_and_retrieve("p:a", "1"), [(nth(1), True, 0, b"a", b"1", None)], key=KEY),
    ),
    Script(
        "RETRIEVE gives the payload again, also when the item is gone",
        ADDED,
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))], key=KEY),
        Do(ack("p:a", "r"), [(True,)]),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))], key=KEY),
    ),
    Script(
        "ACK says true again",
        ADDED,
        Do(ack("p:a", "r"), [(True,)], key=KEY),
        Do(ack("p:a", "r"), [(True,)], key=KEY),
    ),
    Script(
        "CANCEL gives the payload again",
        ADDED,
        Do(cancel("p:a"), [(b"1", None)], key=KEY),
        Do(cancel("p:a"), [(b"1", None)], key=KEY),
    ),
    Script(
        "RESULT by path gives the value again",
        ADDED,
        Do(ack("p:a", "r"), [(True,)]),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)], key=KEY),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)], key=KEY),
        Do(result("p:a"), []),
    ),
    Script(
        "SET NX says true again",
        Do(cache_set("p:k", "1", nx=True), [(True,)], key=KEY),
        Do(cache_set("p:k", "1", nx=True), [(True,)], key=KEY),
        Do(cache_set("p:k", "1", nx=True), [(False,)]),
    ),
    Script(
        "RESULT_BLOCKING that was woken",
        ADDED,
        Wait("one", result_blocking("p:a"), key=KEY),
        Do(ack("p:a", "r"), [(True,)]),
        Woken("one", [(b"r", b"success", nth(1), None)]),
        Do(result_blocking("p:a"), [(b"r", b"success", nth(1), None)], key=KEY),
    ),
    Script(
        "RESULT_BLOCKING that was woken with NULL",
        ADDED,
        Wait("one", result_blocking(id_of(1)), key=KEY),
        Do(ack("p:a", None), [(True,)]),
        Woken("one", [(None, b"success", nth(1), None)]),
        Do(result_blocking(id_of(1)), [(None, b"success", nth(1), None)], key=KEY),
    ),
    Script(
        "RESULT_BLOCKING by id that took a result, also when that has expired",
        ADDED,
        Do(ack("p:a", "r"), [(True,)]),
        Do(result_blocking(id_of(1)), [(b"r", b"success", nth(1), None)], key=KEY),
        Later(2 * MINUTE_MS),
        Do(result_blocking(id_of(1)), [(b"r", b"success", nth(1), None)], key=KEY),
    ),
    Script(
        "reads are executed again",
        Do(get("p:a"), [], key=KEY),
        ADDED,
        Do(get("p:a"), [(b"1", None)], key=KEY),
        Do(cache_get("p:k"), [(None,)], key=KEY),
    ),
    Script(
        "errors are never kept",
        Do(cache_set("p:n", "x"), [(True,)]),
        Do(incr("p:n"), InternalError("invalid digit found in string"), key=KEY),
        Do(cache_set("p:n", "7"), [(True,)]),
        Do(incr("p:n"), [(b"8",)], key=KEY),
    ),
    Script("kept for 5 minutes", COUNTED, Later(KEEP_MS - 1), Tick(), COUNTED),
    Script(
        "forgotten then",
        COUNTED,
        Later(KEEP_MS + 1),
        Tick(),
        Do(incr("p:n"), [(b"2",)], key=KEY),
    ),
    Script(
        "an answer from memory does not prolong",
        COUNTED,
        Later(KEEP_MS - 1),
        COUNTED,
        Later(2),
        Tick(),
        Do(incr("p:n"), [(b"2",)], key=KEY),
    ),
]


@pytest.mark.parametrize("script", ANSWERS, ids=str)
def test_answers(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize(
    "statement",
    [QueueClear(), SysCachestore(CachestoreAction.WIPE), SysCachestore(CachestoreAction.TRUNCATE)],
    ids=["CLEAR", "WIPE", "TRUNCATE"],
)
def test_answers_outlive_emptying(session: Session, statement: Statement) -> None:
    session.play(Script("clear", COUNTED, Do(statement, []), COUNTED))


def test_an_undelivered_answer_is_kept_for_10_minutes(session: Session) -> None:
    session.play(Script("answered", COUNTED))
    session.store.mark_undelivered(KEY)
    session.play(Script("kept", Later(KEEP_UNDELIVERED_MS - 1), Tick(), COUNTED))
    session.play(Script("forgotten", Later(2), Tick(), Do(incr("p:n"), [(b"2",)], key=KEY)))


def test_a_confirmed_answer_is_kept_while_there_is_room(session: Session) -> None:
    session.play(Script("answered", COUNTED))
    session.store.confirm_delivered([KEY, (b"", b"unknown", 9)])
    session.play(Script("kept", Tick(), COUNTED))


def test_an_unknown_key_cannot_be_marked(session: Session) -> None:
    session.store.mark_undelivered(KEY)
    session.store.confirm_delivered([KEY])
    session.play(Script("executed", COUNTED))


@pytest.mark.usefixtures("exact_limits")
def test_unconfirmed_answers_are_never_dropped(open_session: Opener) -> None:
    """A client that has filled its share is refused before anything is done, until it confirms something."""
    session = open_session(Limits(answers=AnswerLimits(max_bytes=10_000)))
    for number in range(20):
        session.rows(add(f"p:{number}", "x" * 2_000))
    answered: list[RequestKey] = []
    refusal = None
    while refusal is None:
        key = (b"", b"connection", len(answered))
        try:
            assert session.rows(cancel(f"p:{len(answered)}"), key=key) == [(b"x" * 2_000, None)]
        except UserError as error:
            refusal = error
        else:
            answered.append(key)
    assert "CUBEQUEUE_ANSWERS_MAX_SIZE" in refusal.text
    refused = len(answered)
    assert refused in range(2, 6)
    audit(session.store)
    assert session.rows(get(f"p:{refused}")) == [(b"x" * 2_000, None)]
    assert session.rows(cancel(f"p:{refused}")) == [(b"x" * 2_000, None)]
    for number, key in enumerate(answered):
        assert session.rows(cancel(f"p:{number}"), key=key) == [(b"x" * 2_000, None)]
    session.store.confirm_delivered(answered)
    assert session.rows(cancel("p:19"), key=(b"", b"connection", 99)) == [(b"x" * 2_000, None)]
    audit(session.store)


@pytest.mark.usefixtures("exact_limits")
def test_reads_go_on_when_there_is_no_room_for_answers(open_session: Opener) -> None:
    session = open_session(Limits(answers=AnswerLimits(max_bytes=100)))
    session.rows(add("p:a", "x" * 2_000))
    session.rows(cancel("p:a"), key=KEY)
    assert isinstance(session.refusal(cancel("p:b"), key=(b"", b"connection", 4)), UserError)
    assert session.rows(get("p:a"), key=(b"", b"connection", 3)) == []


@pytest.mark.usefixtures("two_rooms")
def test_answers_with_texts_and_without_do_not_fill_each_others_room(open_session: Opener) -> None:
    session = open_session(Limits(answers=AnswerLimits(max_bytes=100)))
    session.rows(add("p:a", "x" * 2_000))
    session.rows(cancel("p:a"), key=KEY)
    session.rows(incr("p:n"), key=(b"", b"connection", 2))
    for statement in (incr("p:n"), cancel("p:b")):
        assert isinstance(session.refusal(statement, key=(b"", b"connection", 4)), UserError)
    assert session.rows(get("p:a"), key=(b"", b"connection", 3)) == []


@pytest.mark.usefixtures("exact_limits")
def test_a_refused_statement_is_executed_when_it_comes_again(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_items=1)))
    session.rows(add("p:a"))
    assert isinstance(session.refusal(add("p:b"), key=KEY), UserError)
    session.rows(cancel(id_of(1)))
    [(_, added, pending)] = session.rows(add("p:b"), key=KEY)
    assert (added, pending) == (True, 1)
