"""Bounds of queue items, bytes and waiters: one past a bound is a user error that names the setting (limits.py)."""

from __future__ import annotations

import pytest

from storage.errors import UserError
from storage.limits import QueueLimits
from storage.vocabulary import QueueClear, Statement
from tests.audit import audit
from tests.conformance.conftest import Opener
from tests.conformance.engines import Limits
from tests.conformance.script import HOUR_MS, MINUTE_MS, Session, id_of, nth
from tests.conformance.words import (
    ack,
    add,
    add_and_retrieve,
    cancel,
    get,
    list_all,
    merge_extra,
    result,
    result_blocking,
)

pytestmark = pytest.mark.usefixtures("exact_limits")


def refuse(session: Session, statement: Statement, setting: str) -> None:
    error = session.refusal(statement)
    assert isinstance(error, UserError)
    assert setting in error.text
    audit(session.store)


def test_items(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_items=2)))
    session.rows(add("p:a"))
    session.rows(add_and_retrieve("q:b"))
    refuse(session, add("p:c"), "CUBEQUEUE_QUEUE_MAX_ITEMS")
    refuse(session, add_and_retrieve("r:c"), "CUBEQUEUE_QUEUE_MAX_ITEMS")
    assert session.rows(add("p:a")) == [(nth(1), False, 1)]
    session.rows(ack("q:b", "r"))
    assert session.rows(add("r:c"))[0][1:] == (True, 1)
    refuse(session, add("p:d"), "CUBEQUEUE_QUEUE_MAX_ITEMS")
    session.rows(cancel("p:a"))
    assert session.rows(add("p:d"))[0][1:] == (True, 1)


def test_expired_items_leave_room(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_items=1, max_bytes=10)))
    session.rows(add("p:a", "x" * 10))
    session.now_ms += 4 * HOUR_MS
    assert session.rows(add("q:b", "x" * 10)) == [(nth(2), True, 1)]


def test_payload_bytes(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_bytes=10)))
    session.rows(add("p:a", "x" * 6))
    refuse(session, add("p:b", "x" * 5), "CUBEQUEUE_QUEUE_MAX_SIZE")
    session.rows(add("p:b", "x" * 4))
    refuse(session, add_and_retrieve("p:c", "x", 9), "CUBEQUEUE_QUEUE_MAX_SIZE")
    session.rows(add("p:d", ""))
    session.rows(cancel("p:a"))
    session.rows(add("p:e", "x" * 6))
    session.rows(QueueClear())
    session.rows(add("p:f", "x" * 10))


def test_extra_bytes(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_bytes=10)))
    session.rows(add("p:a", "xx"))
    refuse(session, merge_extra("p:a", '{"a":123}'), "CUBEQUEUE_QUEUE_MAX_SIZE")
    assert session.rows(get("p:a")) == [(b"xx", None)]
    session.rows(merge_extra("p:a", '{"a":12}'))
    refuse(session, merge_extra("p:a", '{"a":123}'), "CUBEQUEUE_QUEUE_MAX_SIZE")
    session.rows(merge_extra("p:a", '{"a":34}'))
    session.rows(merge_extra("p:a", "null"))
    session.rows(add("p:b", "x" * 8))


def test_result_bytes(open_session: Opener) -> None:
    """An engine may count a little more than the value for each result."""
    session = open_session(Limits(queue=QueueLimits(max_bytes=100_000)))
    session.rows(add("p:a", "x" * 40_000))
    session.rows(add("p:b", "x" * 40_000))
    refuse(session, ack("p:a", "x" * 60_001), "CUBEQUEUE_QUEUE_MAX_SIZE")
    assert session.rows(get("p:a")) == [(b"x" * 40_000, None)]
    session.rows(ack("p:a", "x" * 60_000))
    refuse(session, add("p:c", "x"), "CUBEQUEUE_QUEUE_MAX_SIZE")
    session.rows(ack("p:b", None))
    session.rows(add("p:c", "x" * 30_000))
    session.now_ms += MINUTE_MS
    session.rows(add("p:d", "x" * 70_000))
    assert session.rows(result(id_of(1))) == []


def test_an_ack_that_takes_no_more_room_than_its_item_is_never_refused(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_bytes=10)))
    session.rows(add("p:a", "x" * 10))
    assert session.rows(ack("p:a", "y" * 10)) == [(True,)]
    assert session.rows(result("p:a"))[0][0] == b"y" * 10


def test_waiters(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_waiters=2)))
    session.rows(add("p:a"))
    session.wait("one", result_blocking(id_of(1)))
    session.wait("two", result_blocking(id_of(1)))
    refuse(session, result_blocking(id_of(1)), "CUBEQUEUE_QUEUE_MAX_WAITERS")
    refuse(session, result_blocking("p:a"), "CUBEQUEUE_QUEUE_MAX_WAITERS")
    session.give_up("one")
    session.wait("three", result_blocking(id_of(1)))
    session.rows(ack("p:a", "r"))
    session.wait("three", result_blocking(id_of(9)))
    session.wait("four", result_blocking(id_of(9)))
    assert session.rows(result_blocking(id_of(1)))[0][0] == b"r"


def test_a_refused_add_changes_nothing(open_session: Opener) -> None:
    session = open_session(Limits(queue=QueueLimits(max_items=1)))
    session.rows(add("p:a"))
    refuse(session, add("q:b"), "CUBEQUEUE_QUEUE_MAX_ITEMS")
    assert session.rows(list_all("q")) == []
    session.rows(cancel("p:a"))
    assert session.rows(add("q:b"))[0][1:] == (True, 1)
