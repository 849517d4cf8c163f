"""HEARTBEAT, MERGE_EXTRA, CANCEL, ACK, CLEAR (commands.md §4.6 to §4.8, §4.10, §4.12)."""

from __future__ import annotations

import json

import pytest

from storage.errors import InternalError
from storage.vocabulary import CachestoreAction, QueueClear, Statement, SysCachestore
from tests.conformance.script import Do, Later, Script, Session, id_of, nth
from tests.conformance.words import (
    ack,
    add,
    cache_get,
    cache_set,
    cancel,
    get,
    heartbeat,
    list_all,
    merge_extra,
    result,
    retrieve,
    stalled,
)
from tests.model.json_text import is_compact

ENDINGS = [
    Script(
        "CANCEL by path gives payload and extra",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(merge_extra("p:a", "{}"), []),
        Do(cancel("p:a"), [(b"1", b"{}")]),
        Do(cancel("p:a"), []),
        Do(get("p:a"), []),
        Do(result("p:a"), []),
    ),
    Script(
        "CANCEL by id of another's active exclusive item",
        Do(add("p:a", "1", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))], process="one"),
        Do(cancel(id_of(1)), [(b"1", None)], process="two"),
        Do(list_all("p"), [], process="one"),
    ),
    Script(
        "CANCEL frees a slot",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(add("p:b", "2"), [(nth(2), True, 2)]),
        Do(retrieve("p:a"), [(b"1", None, 1, b"a", nth(1))]),
        Do(cancel("p:a"), [(b"1", None)]),
        Do(retrieve("p:b"), [(b"2", None, 0, b"b", nth(2))]),
    ),
    Script(
        "HEARTBEAT by path and by id; an unknown key is ignored",
        Do(heartbeat("p:a"), []),
        Do(heartbeat(id_of(1)), []),
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))]),
        Later(100),
        Do(heartbeat(id_of(1)), []),
        Do(stalled("p", 0), []),
        Later(1),
        Do(stalled("p", 0), [(b"a", nth(1))]),
        Do(heartbeat("p:a"), []),
        Do(stalled("p", 0), []),
    ),
    Script(
        "ACK by path, never retrieved",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", "r"), [(True,)]),
        Do(get("p:a"), []),
        Do(result(id_of(1)), [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "ACK by id of another's item",
        Do(add("p:a", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(ack(id_of(1), "r"), [(True,)], process="two"),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "ACK of an unknown key does nothing, also to a result",
        Do(ack("p:a", "r"), [(False,)]),
        Do(ack(id_of(1), "r"), [(False,)]),
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", "r"), [(True,)]),
        Do(ack("p:a", "s"), [(False,)]),
        Do(ack(id_of(1), None), [(False,)]),
        Do(result("p:a"), [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "ACK NULL stores nothing",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", None), [(True,)]),
        Do(get("p:a"), []),
        Do(result("p:a"), []),
        Do(result(id_of(1)), []),
    ),
    Script(
        "ACK with an empty value stores an empty value",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(ack("p:a", ""), [(True,)]),
        Do(result("p:a"), [(b"", b"success", nth(1), None)]),
    ),
    Script(
        "ACK with an unexpired result of the same path and external id: the newest wins",
        Do(add("p:a", external_id="e"), [(nth(1), True, 1)]),
        Do(ack("p:a", "old"), [(True,)]),
        Do(add("p:a", external_id="e"), [(nth(2), True, 1)]),
        Do(ack("p:a", "new"), [(True,)]),
        Do(get("p:a"), []),
        Do(result("p:a", external_id="e"), [(b"new", b"success", nth(2), b"e")]),
        Do(result("p:a"), [(b"new", b"success", nth(2), b"e")]),
    ),
]

# stored, sent, what is stored then: an error, None, text to be met exactly, or a value to be met as JSON
MERGES: list[tuple[str | None, str, object]] = [
    (None, '{"a": 1}', '{"a": 1}'),
    (None, "no json", "no json"),
    (None, "null", "null"),
    (None, "", ""),
    ('{"a":1}', '{"b":2}', {"a": 1, "b": 2}),
    ('{"a":1,"b":{"c":1}}', ' {"b" : {"d":2}} ', {"a": 1, "b": {"d": 2}}),
    ('{"a":1}', '{"a":null}', {"a": None}),
    ('{"a":1}', "{}", {"a": 1}),
    ('{"a":1}', "null", None),
    ("[1]", " null ", None),
    ("null", "null", None),
    ("null", '{"a":1}', {"a": 1}),
    ("[1]", '{"a":1}', {"a": 1}),
    ('{"a":1}', "[1, 2]", [1, 2]),
    ('{"a":1}', '"text"', "text"),
    ('{"a":1}', "7", 7),
    ('{"a":1}', "true", True),
    ('{"a":1}', '{"b":123456789012345678901234567890}', {"a": 1, "b": 123456789012345678901234567890}),
    ('{"a":1}', '{"b":1.5}', {"a": 1, "b": 1.5}),
    ('{"a":1}', '{"é":"😀\\n\\u00e9"}', {"a": 1, "é": "😀\né"}),
    ('{"a":1}', '{"b":1,"b":2}', {"a": 1, "b": 2}),
    ('{"a":1}', '{"b":"\\ud800"}', {"a": 1, "b": "\ud800"}),
    ('{"a":1}', "[" * 128 + "]" * 128, json.loads("[" * 128 + "]" * 128)),
]

# stored, sent: what is refused, and leaves the extra as it was
REFUSED_MERGES = [
    ('{"a":1}', "no json"),
    ("no json", '{"a":1}'),
    ("no json", "null"),
    ("", "{}"),
    ('{"a":1}', ""),
    ('{"a":1}', "NaN"),
    ('{"a":1}', '{"b":-Infinity}'),
    ('{"a":1}', '{"b":1} x'),
    ('{"a":1}', "{'b':1}"),
    ('{"a":1}', '{"b":01}'),
    ('{"a":1}', '{"b":"\n"}'),
    ('{"a":1}', "[" * 129 + "]" * 129),
    ('{"a":1}', "[" * 100_000),
    ('{"a":1}', '{"b":' * 100_000),
]


@pytest.mark.parametrize("script", ENDINGS, ids=str)
def test_endings(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize("by_id", [False, True], ids=["by path", "by id"])
@pytest.mark.parametrize(("stored", "sent", "then"), MERGES, ids=range(len(MERGES)))
def test_merge_extra(session: Session, stored: str | None, sent: str, then: object, by_id: bool) -> None:
    session.rows(add("p:a"))
    key = id_of(1) if by_id else "p:a"
    if stored is not None:
        session.rows(merge_extra(key, stored))
    assert session.rows(merge_extra(key, sent)) == []
    [(_, extra)] = session.rows(get("p:a"))
    if then is None:
        assert extra is None
    elif stored is None:
        assert isinstance(then, str)
        assert extra == then.encode()
    else:
        assert isinstance(extra, bytes)
        assert json.loads(extra) == then
        assert is_compact(extra)


@pytest.mark.parametrize(("stored", "sent"), REFUSED_MERGES, ids=range(len(REFUSED_MERGES)))
def test_merge_extra_refuses_what_is_not_json(session: Session, stored: str, sent: str) -> None:
    session.rows(add("p:a"))
    session.rows(merge_extra("p:a", stored))
    error = session.refusal(merge_extra("p:a", sent))
    assert isinstance(error, InternalError)
    assert error.text
    assert session.rows(get("p:a")) == [(b"{}", stored.encode())]


def test_merge_extra_says_that_a_value_is_missing(session: Session) -> None:
    session.rows(add("p:a"))
    session.rows(merge_extra("p:a", "x"))
    assert session.refusal(merge_extra("p:a", "{}")).wire_text == "Internal: expected value at line 1 column 1"


def test_merge_extra_of_an_unknown_key_is_ignored(session: Session) -> None:
    assert session.rows(merge_extra("p:a", "no json")) == []
    assert session.rows(merge_extra(id_of(9), "{}")) == []


def test_merge_extra_does_not_beat(session: Session) -> None:
    session.play(
        Script(
            "no heartbeat",
            Do(add("p:a", "1"), [(nth(1), True, 1)]),
            Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))]),
            Later(10),
            Do(merge_extra("p:a", "{}"), []),
            Do(stalled("p", 9), [(b"a", nth(1))]),
        )
    )


@pytest.mark.parametrize(
    ("statement", "spares_cache"),
    [
        (QueueClear(), True),
        (SysCachestore(CachestoreAction.WIPE), False),
        (SysCachestore(CachestoreAction.TRUNCATE), False),
    ],
    ids=["CLEAR", "WIPE", "TRUNCATE"],
)
def test_emptying_the_queue_keeps_ids_rising(session: Session, statement: Statement, spares_cache: bool) -> None:
    session.play(
        Script(
            "clear",
            Do(add("p:a", external_id="e"), [(nth(1), True, 1)]),
            Do(ack("p:a", "r"), [(True,)]),
            Do(add("p:a"), [(nth(2), True, 1)]),
            Do(add("q:b"), [(nth(3), True, 1)]),
            Do(retrieve("q:b"), [(b"{}", None, 0, b"b", nth(3))]),
            Do(cache_set("c:d", "1"), [(True,)]),
            Do(statement, []),
            Do(list_all("p"), []),
            Do(list_all("q"), []),
            Do(get(id_of(2)), []),
            Do(result("p:a", external_id="e"), []),
            Do(result(id_of(1)), []),
            Do(cache_get("c:d"), [(b"1" if spares_cache else None,)]),
            Do(add("q:b", "2"), [(nth(4), True, 1)]),
            Do(retrieve("q:b"), [(b"2", None, 0, b"b", nth(4))]),
        )
    )
