"""The checker of histories: it passes what a right server does, and catches each way to be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import pytest

from storage.vocabulary import (
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    OtherSql,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    Statement,
)
from tests.crash.checker import HEARTBEATS_QUERY, Ids, check
from tests.crash.history import Answer, Operation, canonical, collapse, expand
from tests.crash.models import UNLIMITED

TRUE, FALSE = ((b"true",),), ((b"false",),)
NOTHING: Answer = ()


def add(path: bytes, payload: bytes = b"x", priority: int = 0) -> QueueAdd:
    return QueueAdd(path, payload, priority)


def added(id_: int, is_new: bool = True) -> Answer:
    return ((b"%d" % id_, b"true" if is_new else b"false", b"1"),)


def retrieved(id_: int, payload: bytes = b"x", extra: bytes | None = None) -> Answer:
    return ((payload, extra, b"0", None, b"%d" % id_),)


def claimed(id_: int, payload: bytes | None, extra: bytes | None = None, *, is_new: bool) -> Answer:
    return ((b"%d" % id_, b"true" if is_new else b"false", b"0", None, payload, extra),)


def result(id_: int, value: bytes | None) -> Answer:
    return ((value, b"success", b"%d" % id_, None),)


def one_by_one(*asked: tuple[Statement, Answer]) -> list[Operation]:
    """Each is sent when the one before is answered."""
    places = count(1)
    return [operation(statement, answer, next(places), next(places)) for statement, answer in asked]


def at_once(*asked: tuple[Statement, Answer]) -> list[Operation]:
    """All are sent before any is answered."""
    number = len(asked)
    return [operation(each, answer, place, place + number) for place, (each, answer) in enumerate(asked, 1)]


def operation(statement: Statement, answer: Answer, begin: int, end: int | None) -> Operation:
    return Operation("c", begin, statement, begin, begin * 1_000, end, (end or 0) * 1_000, [answer])


def rules(operations: Iterable[Operation]) -> list[str]:
    return [violation.rule for violation in check(list(operations))]


RETRIEVE = QueueRetrieve(b"q:a", UNLIMITED)
INCR, GET = CacheIncr(b"n:a"), CacheGet(b"n:a")

RIGHT = {
    "a life": one_by_one(
        (add(b"q:a"), added(7)),
        (add(b"q:a", b"y"), added(7, is_new=False)),
        (RETRIEVE, retrieved(7)),
        (RETRIEVE, NOTHING),
        (QueueHeartbeat(7), NOTHING),
        (QueueMergeExtra(b"q:a", b'{"a": "1"}'), NOTHING),
        (QueueMergeExtra(7, b'{"b": "2"}'), NOTHING),
        (QueueGet(7), ((b"x", canonical({"a": "1", "b": "2"})),)),
        (QueueAck(7, b"r"), TRUE),
        (QueueAck(7, b"s"), FALSE),
        (QueueResult(b"q:a"), result(7, b"r")),
        (QueueResult(b"q:a"), NOTHING),
        (QueueResult(7), result(7, b"r")),
        (add(b"q:a", b"z"), added(8)),
        (QueueCancel(b"q:a"), ((b"z", None),)),
        (QueueGet(b"q:a"), NOTHING),
    ),
    "claims at once": one_by_one(
        (QueueAddAndRetrieve(b"q:a", b"x", UNLIMITED), claimed(7, b"x", is_new=True)),
        (QueueAddAndRetrieve(b"q:a", b"y", UNLIMITED), claimed(7, None, is_new=False)),
        (add(b"q:b"), added(8)),
        (QueueAddAndRetrieve(b"q:b", b"y", 1), claimed(8, None, is_new=False)),
        (QueueAddAndRetrieve(b"q:b", b"y", UNLIMITED), claimed(8, b"x", is_new=False)),
    ),
    "waits": [
        *one_by_one((add(b"q:a"), added(7)), (add(b"q:b"), added(8))),
        operation(QueueResultBlocking(7, 100), result(7, b"r"), 10, 21),
        operation(QueueResultBlocking(7, 100), result(7, b"r"), 11, 22),
        operation(QueueResultBlocking(b"q:a", 100), result(7, b"r"), 12, 23),
        operation(QueueResultBlocking(8, 100), result(8, None), 13, 26),
        operation(QueueAck(7, b"r"), TRUE, 14, 20),
        operation(QueueResult(7), NOTHING, 24, 25),  # one who waited by path took it along
        operation(QueueAck(8, None), TRUE, 15, 19),
        operation(QueueResultBlocking(8, 100), NOTHING, 27, 28),
    ],
    "one who waited by id leaves nothing for a path": [
        *one_by_one((add(b"q:a"), added(7))),
        operation(QueueResultBlocking(7, 100), result(7, b"r"), 3, 6),
        operation(QueueAck(7, b"r"), TRUE, 4, 5),
        operation(QueueResult(b"q:a"), NOTHING, 7, 8),
    ],
    "what is answered late may have happened early": [
        operation(CacheSet(b"k", b"old"), TRUE, 1, 2),
        operation(CacheSet(b"k", b"new"), TRUE, 3, 8),
        operation(CacheGet(b"k"), ((b"new",),), 4, 5),
        operation(CacheGet(b"k"), ((b"new",),), 6, 7),
    ],
    "a key": one_by_one(
        (CacheSet(b"c:k", b"1", nx=True), TRUE),
        (CacheSet(b"c:k", b"2", nx=True), FALSE),
        (CacheIncr(b"c:k"), ((b"2",),)),
        (CacheKeys(b"c"), ((b"c:k",),)),
        (CacheRemove(b"c:k"), NOTHING),
        (CacheGet(b"c:k"), ((None,),)),
        (CacheKeys(b"c"), NOTHING),
    ),
    "a removal at the same time as others": [
        operation(CacheSet(b"k", b"v"), TRUE, 1, 3),
        operation(CacheRemove(b"k"), NOTHING, 2, 4),
        operation(CacheGet(b"k"), ((None,),), 5, 6),
    ],
    "time passes": one_by_one(
        (CacheSet(b"k", b"v", ttl_s=1), TRUE),
        (CacheGet(b"k"), ((b"v",),)),
        (CacheGet(b"k"), ((None,),)),
        (CacheSet(b"k", b"w", nx=True), TRUE),
    ),
    "counters of many": at_once((INCR, ((b"3",),)), (INCR, ((b"1",),)), (INCR, ((b"2",),))),
}

WRONG = {
    # What was acknowledged is gone.
    "a lost ADD": ("impossible", one_by_one((add(b"q:a"), added(7)), (QueueGet(b"q:a"), NOTHING))),
    "a lost ADD in a list": ("impossible", one_by_one((add(b"q:a"), added(7)), (QueueList(b"q"), NOTHING))),
    "a lost claim": (
        "impossible",
        one_by_one((add(b"q:a"), added(7)), (RETRIEVE, retrieved(7)), (RETRIEVE, retrieved(7))),
    ),
    "a lost extra": (
        "impossible",
        one_by_one(
            (add(b"q:a"), added(7)),
            (QueueMergeExtra(7, b'{"a": "1"}'), NOTHING),
            (QueueGet(7), ((b"x", None),)),
        ),
    ),
    "a lost ACK": (
        "impossible",
        one_by_one((add(b"q:a"), added(7)), (QueueAck(7, b"r"), TRUE), (QueueGet(7), ((b"x", None),))),
    ),
    "a lost result": (
        "impossible",
        one_by_one((add(b"q:a"), added(7)), (QueueAck(7, b"r"), TRUE), (QueueResult(7), NOTHING)),
    ),
    "a lost CANCEL": (
        "impossible",
        one_by_one(
            (add(b"q:a"), added(7)), (QueueCancel(7), ((b"x", None),)), (add(b"q:a", b"y"), added(7, is_new=False))
        ),
    ),
    "a lost taking": (
        "impossible",
        one_by_one(
            (add(b"q:a"), added(7)),
            (QueueAck(7, b"r"), TRUE),
            (QueueResult(b"q:a"), result(7, b"r")),
            (QueueResult(b"q:a"), result(7, b"r")),
        ),
    ),
    "a lost SET": ("impossible", one_by_one((CacheSet(b"k", b"v"), TRUE), (CacheGet(b"k"), ((None,),)))),
    "a lost REMOVE": (
        "impossible",
        one_by_one((CacheSet(b"k", b"v"), TRUE), (CacheRemove(b"k"), NOTHING), (CacheGet(b"k"), ((b"v",),))),
    ),
    "a lost INCR": ("impossible", one_by_one((INCR, ((b"1",),)), (GET, ((None,),)))),
    "an entry with hours to live is gone": (
        "impossible",
        one_by_one((CacheSet(b"k", b"v", ttl_s=3_600), TRUE), (CacheGet(b"k"), ((None,),))),
    ),
    "an entry that was gone is back": (
        "impossible",
        one_by_one((CacheSet(b"k", b"v", ttl_s=1), TRUE), (CacheGet(b"k"), ((None,),)), (CacheGet(b"k"), ((b"v",),))),
    ),
    "a key that is not listed": (
        "impossible",
        one_by_one((CacheSet(b"c:k", b"v"), TRUE), (CacheKeys(b"c"), NOTHING)),
    ),
    # It happened twice.
    "an INCR twice": ("impossible", one_by_one((INCR, ((b"1",),)), (INCR, ((b"3",),)))),
    "an INCR twice, seen later": ("impossible", one_by_one((INCR, ((b"1",),)), (GET, ((b"2",),)))),
    "two INCRs got one value": ("impossible", at_once((INCR, ((b"1",),)), (INCR, ((b"1",),)))),
    "two claims of one item": (
        "impossible",
        [
            *one_by_one((add(b"q:a"), added(7))),
            operation(RETRIEVE, retrieved(7), 3, 5),
            operation(RETRIEVE, retrieved(7), 4, 6),
        ],
    ),
    "an ADD twice": ("id given twice", at_once((add(b"q:a"), added(7)), (add(b"q:b"), added(7)))),
    "an ADD again behind its ACK": (
        "impossible",
        one_by_one(
            (add(b"q:a"), added(7)), (QueueAck(7, b"r"), TRUE), (QueueList(b"q"), ((b"a", b"8", b"pending", None),))
        ),
    ),
    "two winners of SET NX": (
        "impossible",
        at_once((CacheSet(b"k", b"v", nx=True), TRUE), (CacheSet(b"k", b"w", nx=True), TRUE)),
    ),
    "a SET again over a later one": (
        "impossible",
        one_by_one((CacheSet(b"k", b"v"), TRUE), (CacheSet(b"k", b"w"), TRUE), (CacheGet(b"k"), ((b"v",),))),
    ),
    "an ACK twice": (
        "impossible",
        [
            *one_by_one((add(b"q:a"), added(7))),
            operation(QueueAck(7, b"r"), TRUE, 3, 5),
            operation(QueueAck(7, b"s"), TRUE, 4, 6),
        ],
    ),
    # Nobody said it.
    "an invented value": ("impossible", one_by_one((CacheSet(b"k", b"v"), TRUE), (CacheGet(b"k"), ((b"other",),)))),
    "an invented result": (
        "impossible",
        one_by_one((add(b"q:a"), added(7)), (QueueAck(7, b"r"), TRUE), (QueueResult(7), result(7, b"other"))),
    ),
    "an invented payload": ("impossible", one_by_one((add(b"q:a"), added(7)), (RETRIEVE, retrieved(7, b"other")))),
    "an invented item": ("impossible", one_by_one((add(b"q:a"), added(7)), (QueueGet(b"q:a"), ((b"x", b"{}"),)))),
    "a value ahead of its time": (
        "impossible",
        one_by_one((CacheGet(b"k"), ((b"v",),)), (CacheSet(b"k", b"v"), TRUE)),
    ),
    "a wait for nothing was answered": (
        "impossible",
        one_by_one((add(b"q:a"), added(7)), (QueueResultBlocking(7, 100), result(7, b"r"))),
    ),
    "a wait that came after an ACK with NULL": (
        "impossible",
        one_by_one(
            (add(b"q:a"), added(7)),
            (QueueAck(7, None), TRUE),
            (QueueGet(7), NOTHING),
            (add(b"q:a"), added(8)),
            (QueueResultBlocking(7, 100), result(7, None)),
        ),
    ),
    # Ids, order, heartbeats, answers.
    "an id that went back": ("id went back", one_by_one((add(b"q:a"), added(7)), (add(b"q:b"), added(6)))),
    "low priority first": (
        "order",
        one_by_one(
            (add(b"q:a", priority=1), added(7)),
            (add(b"q:b", priority=5), added(8)),
            (QueueList(b"q"), ((b"a", b"7", b"pending", None), (b"b", b"8", b"pending", None))),
        ),
    ),
    "young before old": (
        "order",
        one_by_one(
            (add(b"q:a"), added(7)),
            (add(b"q:b"), added(8)),
            (QueueList(b"q"), ((b"b", b"8", b"pending", None), (b"a", b"7", b"pending", None))),
        ),
    ),
    "a lost heartbeat": (
        "heartbeat",
        one_by_one(
            (add(b"q:a"), added(7)),
            (RETRIEVE, retrieved(7)),  # begun 3 s after the epoch
            (QueueHeartbeat(7), NOTHING),  # and this one 5 s
            (OtherSql(HEARTBEATS_QUERY), ((b"q", b"a", b"1970-01-01T00:00:03.500Z"),)),
        ),
    ),
    "an invented heartbeat": (
        "heartbeat",
        one_by_one(
            (add(b"q:a"), added(7)),
            (QueueHeartbeat(7), NOTHING),  # from 3 s to 4 s
            (OtherSql(HEARTBEATS_QUERY), ((b"q", b"a", b"1970-01-01T00:00:04.500Z"),)),
        ),
    ),
    "an error": ("error", one_by_one((INCR, "Internal: oh"))),
    "no answer": ("unanswered", [operation(INCR, (), 1, None)]),
}


@pytest.mark.parametrize("operations", RIGHT.values(), ids=RIGHT)
def test_what_a_right_server_does_passes(operations: list[Operation]) -> None:
    assert check(operations) == []


@pytest.mark.parametrize(("rule", "operations"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_caught(rule: str, operations: list[Operation]) -> None:
    assert rules(operations) == [rule]


def test_the_same_message_is_answered_the_same() -> None:
    (incr,) = one_by_one((INCR, ((b"1",),)))
    incr.answers.append(((b"1",),))
    assert rules([incr]) == []
    incr.answers.append(((b"2",),))
    assert rules([incr]) == ["another answer"]


def test_ids_do_not_come_again_in_a_later_history() -> None:
    ids = Ids()
    assert check(one_by_one((add(b"q:a"), added(7)), (add(b"q:b"), added(8))), ids) == []
    assert [each.rule for each in check(one_by_one((add(b"q2:a"), added(7))), ids)] == ["id given twice"]
    assert [each.rule for each in check(one_by_one((add(b"q2:a"), added(5))), ids)] == ["id went back"]


def test_heartbeats_by_id_and_path_are_right() -> None:
    operations = one_by_one(
        (add(b"q:a"), added(7)),
        (QueueHeartbeat(7), NOTHING),
        (QueueHeartbeat(b"q:a"), NOTHING),
        (add(b"q:b"), added(8)),
    )
    for key, heartbeat in ((b"a", b"03.500"), (b"a", b"06.000"), (b"b", None), (b"older", b"01.000")):
        shown = None if heartbeat is None else b"1970-01-01T00:00:%sZ" % heartbeat
        (select,) = one_by_one((OtherSql(HEARTBEATS_QUERY), ((b"q", key, shown),)))
        assert check([*operations, select]) == []


@pytest.mark.parametrize(
    ("shown", "rules"),
    [
        (b"07.000", []),
        (b"07.600", []),
        (b"03.500", ["heartbeat"]),
        (b"06.999", ["heartbeat"]),
        (b"07.601", ["heartbeat"]),
    ],
)
def test_a_heartbeat_is_moved_by_the_absences_since(shown: bytes, rules: list[str]) -> None:
    operations = one_by_one(
        (add(b"q:a"), added(7)),
        (QueueHeartbeat(7), NOTHING),  # from 3 s to 4 s
        (OtherSql(HEARTBEATS_QUERY), ((b"q", b"a", b"1970-01-01T00:00:%sZ" % shown),)),
    )
    absences = [(1_000, 2_000), (3_600, 5_600), (6_000, 8_000)]
    assert [each.rule for each in check(operations, None, absences)] == rules


@pytest.mark.parametrize("size", [1, 10, 300, 70_000])
def test_a_text_is_known_by_its_tag_and_only_when_it_is_whole(size: int) -> None:
    tag = b"c1.5.%d" % size
    text = expand(tag)
    assert len(text) >= size
    assert collapse(text) == tag
    assert collapse(b'{"a": "%s"}' % text) == canonical({"a": tag.decode()})
    if size > 10:
        for damaged in (text[:-1], text + b"x", text[:200] + b"#" + text[201:]):
            assert collapse(damaged) != tag
            assert (collapse(damaged) or b"").startswith(b"damaged")
