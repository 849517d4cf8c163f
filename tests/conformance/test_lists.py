"""GET, LIST, PENDING, ACTIVE, STALLED, ORPHANED, TO_CANCEL (commands.md §4.3 to §4.5)."""

from __future__ import annotations

import pytest

from tests.conformance.script import Do, Later, Script, Session, id_of, nth
from tests.conformance.words import (
    active,
    add,
    add_and_retrieve,
    get,
    heartbeat,
    list_all,
    merge_extra,
    orphaned,
    pending,
    retrieve,
    stalled,
    to_cancel,
)

LISTS = [
    Script(
        "nothing there",
        Do(list_all("p"), []),
        Do(pending("p"), []),
        Do(active("p", with_payload=True), []),
        Do(get("p:a"), []),
        Do(get(id_of(1)), []),
    ),
    Script(
        "by priority, then in the order of arrival",
        Do(add("p:a", priority=0), [(nth(1), True, 1)]),
        Do(add("p:b", priority=10), [(nth(2), True, 2)]),
        Do(add("p:c", priority=-10000), [(nth(3), True, 3)]),
        Do(add("p:d", priority=10), [(nth(4), True, 4)]),
        Do(retrieve("p:d"), [(b"{}", None, 3, b"d", nth(4))]),
        Do(
            list_all("p"),
            [
                (b"b", nth(2), b"pending", None),
                (b"d", nth(4), b"active", None),
                (b"a", nth(1), b"pending", None),
                (b"c", nth(3), b"pending", None),
            ],
        ),
        Do(
            pending("p"),
            [(b"b", nth(2), b"pending", None), (b"a", nth(1), b"pending", None), (b"c", nth(3), b"pending", None)],
        ),
    ),
    Script(
        "priorities of 64 bits",
        Do(add("p:a", priority=-(1 << 63)), [(nth(1), True, 1)]),
        Do(add("p:b", priority=(1 << 63) - 1), [(nth(2), True, 2)]),
        Do(pending("p"), [(b"b", nth(2), b"pending", None), (b"a", nth(1), b"pending", None)]),
    ),
    Script(
        "ACTIVE by id, whatever the priority and the order of the claims; LIST of them by priority",
        Do(add("p:a", priority=1), [(nth(1), True, 1)]),
        Do(add("p:b", priority=9), [(nth(2), True, 2)]),
        Do(retrieve("p:b", 9), [(b"{}", None, 1, b"b", nth(2))]),
        Do(retrieve("p:a", 9), [(b"{}", None, 0, b"b,a", nth(1))]),
        Do(active("p"), [(b"a", nth(1), b"active", None), (b"b", nth(2), b"active", None)]),
        Do(list_all("p"), [(b"b", nth(2), b"active", None), (b"a", nth(1), b"active", None)]),
    ),
    Script(
        "WITH_PAYLOAD adds the payload at the end, extra is given always",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(merge_extra("p:a", "{}"), []),
        Do(list_all("p"), [(b"a", nth(1), b"pending", b"{}")]),
        Do(list_all("p", with_payload=True), [(b"a", nth(1), b"pending", b"{}", b"1")]),
        Do(pending("p", with_payload=True), [(b"a", nth(1), b"pending", b"{}", b"1")]),
    ),
    Script(
        "exclusive items are for their owner's eyes, whatever their status",
        Do(add("p:a", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(add_and_retrieve("p:b", "{}", 9, exclusive=True), [(nth(2), True, 1, b"b", b"{}", None)], process="one"),
        Do(add("p:c"), [(nth(3), True, 2)], process="one"),
        Do(list_all("p"), [(b"c", nth(3), b"pending", None)]),
        Do(list_all("p"), [(b"c", nth(3), b"pending", None)], process="two"),
        Do(active("p"), []),
        Do(active("p"), [(b"b", nth(2), b"active", None)], process="one"),
        Do(pending("p"), [(b"a", nth(1), b"pending", None), (b"c", nth(3), b"pending", None)], process="one"),
    ),
    Script(
        "GET by path and by id, any status, any process",
        Do(add("p:a", "1", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(get("p:a"), [(b"1", None)]),
        Do(get(id_of(1)), [(b"1", None)], process="two"),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))], process="one"),
        Do(get("p:a"), [(b"1", None)]),
    ),
    Script(
        "a quoted number is a path",
        Do(add("5"), [(nth(1), True, 1)]),
        Do(get("5"), [(b"{}", None)]),
        Do(get(5), []),
        Do(get(str(id_of(1))), []),
    ),
]

# what the item is, ms since then, query, whether it is shown
DUE = [
    ("pending", 1_001, stalled("p", 1_000), False),
    ("active", 1_000, stalled("p", 1_000), False),
    ("active", 1_001, stalled("p", 1_000), True),
    ("active", 0, stalled("p", 0), False),
    ("active", 1, stalled("p", 0), True),
    ("beating", 1_000, stalled("p", 1_000), False),
    ("beating", 1_001, stalled("p", 1_000), True),
    ("pending", 1_000, orphaned("p", 1_000), False),
    ("pending", 1_001, orphaned("p", 1_000), True),
    ("active", 9_001, orphaned("p", 1_000), False),
    ("orphaned 5", 5_000, orphaned("p", 1_000), False),
    ("orphaned 5", 5_001, orphaned("p", 1_000), True),
    ("orphaned 5", 5_001, orphaned("p", 1_000_000), True),
    ("orphaned 0", 0, orphaned("p", 0), False),
    ("orphaned 0", 1, orphaned("p", 1_000), True),
    ("pending", 1_001, to_cancel("p", 0, 1_000), True),
    ("pending", 1_000, to_cancel("p", 0, 1_000), False),
    ("active", 1_001, to_cancel("p", 1_000, 0), True),
    ("active", 1_000, to_cancel("p", 1_000, 0), False),
    ("orphaned 5", 5_000, to_cancel("p", 0, 0), False),
    ("orphaned 5", 5_001, to_cancel("p", 0, 1_000_000), True),
    ("active", 1_001, to_cancel("q", 0, 0), False),
    ("active", -1_000, stalled("p", 0), False),
]

MAKE = {
    "pending": (Do(add("p:k"), [(nth(1), True, 1)]),),
    "active": (
        Do(add("p:k"), [(nth(1), True, 1)]),
        Later(7_000),
        Do(retrieve("p:k"), [(b"{}", None, 0, b"k", nth(1))]),
    ),
    "beating": (
        Do(add_and_retrieve("p:k"), [(nth(1), True, 0, b"k", b"{}", None)]),
        Later(7_000),
        Do(heartbeat("p:k"), []),
    ),
    "orphaned 5": (Do(add("p:k", orphaned_s=5), [(nth(1), True, 1)]),),
    "orphaned 0": (Do(add("p:k", orphaned_s=0), [(nth(1), True, 1)]),),
}


@pytest.mark.parametrize("script", LISTS, ids=str)
def test_lists(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize(("item", "after_ms", "query", "is_due"), DUE)
def test_to_cancel(session: Session, item: str, after_ms: int, query: object, is_due: bool) -> None:
    rows = [(b"k", nth(1))] if is_due else []
    session.play(Script(item, *MAKE[item], Later(after_ms), Do(query, rows)))  # type: ignore[arg-type]


def test_to_cancel_is_in_id_order_and_shows_everybodys(session: Session) -> None:
    session.play(
        Script(
            "order",
            Do(add("p:a", priority=1), [(nth(1), True, 1)]),
            Do(add("p:b", exclusive=True, orphaned_s=0, priority=9), [(nth(2), True, 2)], process="one"),
            Do(add("p:c", priority=5), [(nth(3), True, 3)]),
            Do(retrieve("p:a"), [(b"{}", None, 2, b"a", nth(1))]),
            Later(10),
            Do(to_cancel("p", 5, 5), [(b"a", nth(1)), (b"b", nth(2)), (b"c", nth(3))]),
            Do(orphaned("p", 5), [(b"b", nth(2)), (b"c", nth(3))], process="two"),
            Do(list_all("p"), [(b"c", nth(3), b"pending", None), (b"a", nth(1), b"active", None)]),
        )
    )


def test_a_pending_item_that_was_beaten_is_an_orphan_by_its_age(session: Session) -> None:
    session.play(
        Script(
            "heartbeat of a pending item",
            Do(add("p:a"), [(nth(1), True, 1)]),
            Later(1_000),
            Do(heartbeat("p:a"), []),
            Do(orphaned("p", 999), [(b"a", nth(1))]),
            Do(pending("p"), [(b"a", nth(1), b"pending", None)]),
        )
    )
