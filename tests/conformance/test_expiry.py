"""Expiry of items (state-machine.md §1, "Item expiry"; decisions: an active item lives while it beats)."""

from __future__ import annotations

import pytest

from storage.vocabulary import Statement
from tests.audit import audit
from tests.conformance.script import HOUR_MS, SECOND_MS, Do, Later, Script, Session, Tick, id_of, nth
from tests.conformance.words import (
    ack,
    active,
    add,
    add_and_retrieve,
    cancel,
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

LIFE_MS = 4 * HOUR_MS
ADDED = Do(add("p:a", "1"), [(nth(1), True, 1)])
CLAIMED = Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))])

EXPIRIES = [
    Script("pending lives 4 h", ADDED, Later(LIFE_MS - 1), Do(get("p:a"), [(b"1", None)])),
    Script("pending ends at 4 h", ADDED, Later(LIFE_MS), Do(get("p:a"), [])),
    Script(
        "a heartbeat does not prolong a pending item",
        ADDED,
        Later(HOUR_MS),
        Do(heartbeat("p:a"), []),
        Later(3 * HOUR_MS),
        Do(get("p:a"), []),
    ),
    Script(
        "a merge does not prolong",
        ADDED,
        Later(HOUR_MS),
        Do(merge_extra("p:a", "{}"), []),
        Later(3 * HOUR_MS),
        Do(get("p:a"), []),
    ),
    Script(
        "with ORPHANED: 2 h after that",
        Do(add("p:a", "1", orphaned_s=10), [(nth(1), True, 1)]),
        Later(10 * SECOND_MS + 2 * HOUR_MS - 1),
        Do(get("p:a"), [(b"1", None)]),
        Later(1),
        Do(get("p:a"), []),
    ),
    Script(
        "a claim is a beat: 4 h after it",
        ADDED,
        Later(3 * HOUR_MS),
        CLAIMED,
        Later(LIFE_MS - 1),
        Do(active("p"), [(b"a", nth(1), b"active", None)]),
        Later(1),
        Do(active("p"), []),
    ),
    Script(
        "an active item lives while it beats",
        ADDED,
        CLAIMED,
        Later(3 * HOUR_MS),
        Do(heartbeat(id_of(1)), []),
        Later(3 * HOUR_MS),
        Do(heartbeat(id_of(1)), []),
        Later(LIFE_MS - 1),
        Do(get("p:a"), [(b"1", None)]),
        Later(1),
        Do(get("p:a"), []),
    ),
    Script(
        "an active item with a far ORPHANED lives until that",
        Do(add("p:a", "1", orphaned_s=10 * 3600), [(nth(1), True, 1)]),
        CLAIMED,
        Later(12 * HOUR_MS - 1),
        Do(get("p:a"), [(b"1", None)]),
        Later(1),
        Do(get("p:a"), []),
    ),
    Script(
        "a claim prolongs what ORPHANED made short",
        Do(add("p:a", "1", orphaned_s=0), [(nth(1), True, 1)]),
        Later(HOUR_MS),
        CLAIMED,
        Later(LIFE_MS - 1),
        Do(get("p:a"), [(b"1", None)]),
    ),
    Script(
        "background work takes nothing early",
        ADDED,
        Later(LIFE_MS - 1),
        Tick(),
        Do(get("p:a"), [(b"1", None)]),
        Later(1),
        Tick(),
        Do(get("p:a"), []),
    ),
    Script(
        "an expired path starts anew",
        ADDED,
        CLAIMED,
        Later(LIFE_MS),
        Do(add("p:a", "2"), [(nth(2), True, 1)]),
        Do(retrieve("p:a", 1), [(b"2", None, 0, b"a", nth(2))]),
    ),
    Script(
        "an expired path starts anew as active",
        ADDED,
        Later(LIFE_MS),
        Do(add_and_retrieve("p:a", "2", 1), [(nth(2), True, 0, b"a", b"2", None)]),
    ),
    Script(
        "expired items count nowhere",
        ADDED,
        CLAIMED,
        Do(add("p:b"), [(nth(2), True, 1)]),
        Later(LIFE_MS),
        Do(add("p:c"), [(nth(3), True, 1)]),
        Do(retrieve("p:c", 1), [(b"{}", None, 0, b"c", nth(3))]),
    ),
]

# every statement on an expired item: as on an unknown one
ON_EXPIRED: list[tuple[Statement, list[tuple[object, ...]]]] = [
    (get("p:a"), []),
    (get(id_of(1)), []),
    (list_all("p"), []),
    (pending("p"), []),
    (active("p"), []),
    (stalled("p", 0), []),
    (orphaned("p", 0), []),
    (to_cancel("p", 0, 0), []),
    (cancel("p:a"), []),
    (cancel(id_of(1)), []),
    (heartbeat("p:a"), []),
    (heartbeat(id_of(1)), []),
    (merge_extra("p:a", "{}"), []),
    (merge_extra(id_of(1), "{}"), []),
    (ack("p:a", "r"), [(False,)]),
    (ack(id_of(1), "r"), [(False,)]),
    (retrieve("p:a"), []),
    (retrieve("p:a", extended=True), [(None, None, 0, None, None)]),
]


@pytest.mark.parametrize("script", EXPIRIES, ids=str)
def test_expiry(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize("was_claimed", [False, True], ids=["pending", "active"])
@pytest.mark.parametrize(("statement", "rows"), ON_EXPIRED, ids=lambda value: type(value).__name__)
def test_an_expired_item_is_gone_for_every_statement(
    session: Session, statement: Statement, rows: list[tuple[object, ...]], was_claimed: bool
) -> None:
    session.play(Script("given", ADDED, *([CLAIMED] if was_claimed else []), Later(LIFE_MS)))
    assert session.rows(statement) == rows
    assert session.rows(list_all("p")) == []


def test_background_work_frees_what_expired(session: Session) -> None:
    """A few rows at a time, and to the end."""
    for number in range(50):
        session.rows(add(f"p{number % 7}:{number}"))
    session.now_ms += LIFE_MS
    session.tick(max_rows=1)
    audit(session.store)
    assert all(session.rows(list_all(f"p{number}")) == [] for number in range(7))


def test_a_step_back_of_the_clock_brings_nothing_back(session: Session) -> None:
    session.play(
        Script(
            "step back",
            ADDED,
            Later(LIFE_MS),
            Do(get("p:a"), []),
            Later(-HOUR_MS),
            Do(get("p:a"), []),
            Do(add("p:a", "2"), [(nth(2), True, 1)]),
        )
    )
