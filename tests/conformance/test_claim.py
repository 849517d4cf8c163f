"""ADD_AND_RETRIEVE and RETRIEVE (commands.md §4.2, §4.9)."""

from __future__ import annotations

import pytest

from storage.errors import UserError
from tests.conformance.script import HOUR_MS, Do, Later, Script, Session, nth
from tests.conformance.words import (
    active,
    add,
    add_and_retrieve,
    merge_extra,
    pending,
    retrieve,
    stalled,
)

CLAIM_NEEDS_OWNER = (
    "Claiming an exclusive queue item requires a process_id in the connection context (x-process-id header)"
)
ADD_NEEDS_OWNER = (
    "QUEUE ADD_AND_RETRIEVE EXCLUSIVE requires a process_id in the connection context (x-process-id header)"
)

ADD_AND_RETRIEVE = [
    Script(
        "a new path is claimed at once",
        Do(add_and_retrieve("p:k", "1", 1), [(nth(1), True, 0, b"k", b"1", None)]),
        Do(active("p"), [(b"k", nth(1), b"active", None)]),
    ),
    Script(
        "the claim beats",
        Do(add_and_retrieve("p:k", "1", 1), [(nth(1), True, 0, b"k", b"1", None)]),
        Later(1_000),
        Do(stalled("p", 1_000), []),
        Do(stalled("p", 999), [(b"k", nth(1))]),
    ),
    Script(
        "a new path without a claim stays pending",
        Do(add_and_retrieve("p:a", "1", 1), [(nth(1), True, 0, b"a", b"1", None)]),
        Do(add_and_retrieve("p:b", "2", 1), [(nth(2), True, 1, b"a", None, None)]),
        Do(pending("p"), [(b"b", nth(2), b"pending", None)]),
    ),
    Script(
        "nothing active is NULL",
        Do(add_and_retrieve("p:a", "1", 0), [(nth(1), True, 1, None, None, None)]),
    ),
    Script(
        "the backlog counts against the concurrency",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(add_and_retrieve("p:b", "2", 1), [(nth(2), True, 2, None, None, None)]),
        Do(add_and_retrieve("p:c", "3", 3), [(nth(3), True, 2, b"c", b"3", None)]),
    ),
    Script(
        "the item itself is not its own backlog",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(add_and_retrieve("p:a", "2", 1), [(nth(1), False, 0, b"a", b"1", None)]),
    ),
    Script(
        "an existing pending path gives the stored payload and extra",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(merge_extra("p:a", '{"x":1}'), []),
        Do(add_and_retrieve("p:a", "2", 1), [(nth(1), False, 0, b"a", b"1", b'{"x":1}')]),
    ),
    Script(
        "an existing pending path without a claim",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(add("p:b"), [(nth(2), True, 2)]),
        Do(add_and_retrieve("p:a", "3", 1), [(nth(1), False, 2, None, None, None)]),
    ),
    Script(
        "an existing active path is not claimed again",
        Do(add_and_retrieve("p:a", "1", 1), [(nth(1), True, 0, b"a", b"1", None)]),
        Do(add_and_retrieve("p:a", "1", 9), [(nth(1), False, 0, b"a", None, None)]),
    ),
    Script(
        "an exclusive item of another process is not claimed",
        Do(add("p:a", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(add_and_retrieve("p:a", "2", 9), [(nth(1), False, 1, None, None, None)], process="two"),
        Do(add_and_retrieve("p:a", "2", 9), [(nth(1), False, 0, b"a", b"{}", None)], process="one"),
    ),
    Script(
        "an exclusive pending item and no process id",
        Do(add("p:a", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(add_and_retrieve("p:a", "2", 1), UserError(CLAIM_NEEDS_OWNER)),
        Do(add_and_retrieve("p:a", "2", 0), [(nth(1), False, 1, None, None, None)]),
    ),
    Script(
        "an exclusive active item and no process id: the status is looked at first",
        Do(add_and_retrieve("p:a", "1", 1, exclusive=True), [(nth(1), True, 0, b"a", b"1", None)], process="one"),
        Do(add_and_retrieve("p:a", "2", 9), [(nth(1), False, 0, b"a", None, None)]),
    ),
    Script(
        "EXCLUSIVE needs a process id",
        Do(add_and_retrieve("p:a", "1", 1, exclusive=True), UserError(ADD_NEEDS_OWNER)),
        Do(pending("p"), []),
    ),
    Script(
        "keys in id order with the claimed one last",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(add_and_retrieve("p:b", "2", 9), [(nth(2), True, 1, b"b", b"2", None)]),
        Do(add_and_retrieve("p:c", "3", 9), [(nth(3), True, 1, b"b,c", b"3", None)]),
        Do(add_and_retrieve("p:a", "4", 9), [(nth(1), False, 0, b"b,c,a", b"{}", None)]),
        Do(add_and_retrieve("p:d", "5", 0), [(nth(4), True, 1, b"a,b,c", None, None)]),
    ),
    Script(
        "prefixes do not count for each other",
        Do(add_and_retrieve("p:a", "1", 1), [(nth(1), True, 0, b"a", b"1", None)]),
        Do(add_and_retrieve("q:a", "2", 1), [(nth(2), True, 0, b"a", b"2", None)]),
    ),
]

RETRIEVE = [
    Script(
        "success",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(add("p:b", "2"), [(nth(2), True, 2)]),
        Do(retrieve("p:b"), [(b"2", None, 1, b"b", nth(2))]),
    ),
    Script(
        "success gives the extra, and the claimed key last",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(add("p:b", "2"), [(nth(2), True, 2)]),
        Do(add("p:c", "3"), [(nth(3), True, 3)]),
        Do(merge_extra("p:a", "{}"), []),
        Do(retrieve("p:c", 9), [(b"3", None, 2, b"c", nth(3))]),
        Do(retrieve("p:b", 9), [(b"2", None, 1, b"c,b", nth(2))]),
        Do(retrieve("p:a", 9), [(b"1", b"{}", 0, b"b,c,a", nth(1))]),
    ),
    Script(
        "concurrency is reached",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(add("p:b", "2"), [(nth(2), True, 2)]),
        Do(retrieve("p:a", 1), [(b"1", None, 1, b"a", nth(1))]),
        Do(retrieve("p:b", 1), []),
        Do(retrieve("p:b", 1, extended=True), [(None, None, 1, b"a", None)]),
        Do(retrieve("p:b", 2, extended=True), [(b"2", None, 0, b"a,b", nth(2))]),
    ),
    Script(
        "concurrency 0 always fails",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(retrieve("p:a", 0), []),
        Do(retrieve("p:a", 0, extended=True), [(None, None, 1, None, None)]),
    ),
    Script(
        "an unknown path fails",
        Do(retrieve("p:a"), []),
        Do(retrieve("p:a", extended=True), [(None, None, 0, None, None)]),
    ),
    Script(
        "an active path fails",
        Do(add("p:a", "1"), [(nth(1), True, 1)]),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))]),
        Do(retrieve("p:a", 9), []),
        Do(retrieve("p:a", 9, extended=True), [(None, None, 0, b"a", None)]),
    ),
    Script(
        "an exclusive item is for its owner",
        Do(add("p:a", "1", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(retrieve("p:a"), UserError(CLAIM_NEEDS_OWNER)),
        Do(retrieve("p:a", extended=True), UserError(CLAIM_NEEDS_OWNER)),
        Do(retrieve("p:a"), [], process="two"),
        Do(retrieve("p:a", extended=True), [(None, None, 1, None, None)], process="two"),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))], process="one"),
    ),
    Script(
        "concurrency is looked at before the owner",
        Do(add("p:a", "1", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(retrieve("p:a", 0), []),
    ),
    Script(
        "a process id that is not EXCLUSIVE owns nothing",
        Do(add("p:a", "1"), [(nth(1), True, 1)], process="one"),
        Do(retrieve("p:a"), [(b"1", None, 0, b"a", nth(1))]),
    ),
    Script(
        "exclusive active items of others count and are named",
        Do(add_and_retrieve("p:a", "1", 1, exclusive=True), [(nth(1), True, 0, b"a", b"1", None)], process="one"),
        Do(add("p:b", "2"), [(nth(2), True, 1)]),
        Do(retrieve("p:b", 1, extended=True), [(None, None, 1, b"a", None)]),
        Do(retrieve("p:b", 2), [(b"2", None, 0, b"a,b", nth(2))]),
    ),
    Script(
        "an active item that stopped beating still counts",
        Do(add_and_retrieve("p:a", "1", 1), [(nth(1), True, 0, b"a", b"1", None)]),
        Later(3 * HOUR_MS),
        Do(add("p:b", "2"), [(nth(2), True, 1)]),
        Do(retrieve("p:b", 1), []),
    ),
    Script(
        "priority is not considered",
        Do(add("p:a", "1", priority=1), [(nth(1), True, 1)]),
        Do(add("p:b", "2", priority=9), [(nth(2), True, 2)]),
        Do(retrieve("p:a"), [(b"1", None, 1, b"a", nth(1))]),
    ),
]


@pytest.mark.parametrize("script", ADD_AND_RETRIEVE, ids=str)
def test_add_and_retrieve(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize("script", RETRIEVE, ids=str)
def test_retrieve(session: Session, script: Script) -> None:
    session.play(script)
