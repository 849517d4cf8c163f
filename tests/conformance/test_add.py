"""ADD and keys (commands.md §3, §4.1; state-machine.md §1)."""

from __future__ import annotations

import pytest

from storage.errors import UserError
from tests.conformance.script import Do, Script, Session, nth
from tests.conformance.words import (
    ack,
    active,
    add,
    add_and_retrieve,
    cancel,
    get,
    list_all,
    pending,
    result,
    retrieve,
)

NO_OWNER = "QUEUE ADD EXCLUSIVE requires a process_id in the connection context (x-process-id header)"

ADD = [
    Script(
        "an unknown path is inserted as pending",
        Do(add("p:k", "1"), [(nth(1), True, 1)]),
        Do(pending("p", with_payload=True), [(b"k", nth(1), b"pending", None, b"1")]),
    ),
    Script(
        "ids rise by one over all prefixes",
        Do(add("p:a"), [(nth(1), True, 1)]),
        Do(add("q:a"), [(nth(2), True, 1)]),
        Do(add("p:b"), [(nth(3), True, 2)]),
    ),
    Script(
        "a pending path changes in nothing",
        Do(add("p:k", "1", priority=5, external_id="e"), [(nth(1), True, 1)]),
        Do(add("p:k", "2", priority=9, external_id="f", orphaned_s=1), [(nth(1), False, 1)]),
        Do(add("p:later", "3", priority=7), [(nth(2), True, 2)]),
        Do(
            list_all("p", with_payload=True),
            [(b"later", nth(2), b"pending", None, b"3"), (b"k", nth(1), b"pending", None, b"1")],
        ),
        Do(ack("p:k", "r"), [(True,)]),
        Do(result("p:k", external_id="e"), [(b"r", b"success", nth(1), b"e")]),
    ),
    Script(
        "an active path changes in nothing",
        Do(add("p:k", "1"), [(nth(1), True, 1)]),
        Do(retrieve("p:k"), [(b"1", None, 0, b"k", nth(1))]),
        Do(add("p:k", "2"), [(nth(1), False, 0)]),
        Do(active("p", with_payload=True), [(b"k", nth(1), b"active", None, b"1")]),
    ),
    Script(
        "a repeated ADD does not change the owner",
        Do(add("p:k", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(add("p:k", exclusive=True), [(nth(1), False, 1)], process="two"),
        Do(pending("p"), [], process="two"),
        Do(pending("p"), [(b"k", nth(1), b"pending", None)], process="one"),
    ),
    Script(
        "a result of the path is irrelevant",
        Do(add("p:k"), [(nth(1), True, 1)]),
        Do(ack("p:k", "r"), [(True,)]),
        Do(add("p:k"), [(nth(2), True, 1)]),
        Do(result("p:k"), [(b"r", b"success", nth(1), None)]),
    ),
    Script(
        "pending counts all owners",
        Do(add("p:a", exclusive=True), [(nth(1), True, 1)], process="one"),
        Do(add("p:b", exclusive=True), [(nth(2), True, 2)], process="two"),
        Do(add("p:c"), [(nth(3), True, 3)]),
    ),
    Script(
        "EXCLUSIVE needs a process id",
        Do(add("p:k", exclusive=True), UserError(NO_OWNER)),
        Do(list_all("p"), []),
        Do(add("p:k"), [(nth(1), True, 1)]),
        Do(add("p:k", exclusive=True), UserError(NO_OWNER)),
    ),
    Script(
        "an external id may be used by two paths",
        Do(add("p:a", external_id="e"), [(nth(1), True, 1)]),
        Do(add("p:b", external_id="e"), [(nth(2), True, 2)]),
    ),
    Script(
        "a cancelled path starts anew with a new id",
        Do(add("p:k", "1"), [(nth(1), True, 1)]),
        Do(cancel("p:k"), [(b"1", None)]),
        Do(add("p:k", "2"), [(nth(2), True, 1)]),
        Do(get("p:k"), [(b"2", None)]),
    ),
    Script(
        "an empty payload is a payload",
        Do(add("p:k", ""), [(nth(1), True, 1)]),
        Do(get("p:k"), [(b"", None)]),
        Do(retrieve("p:k"), [(b"", None, 0, b"k", nth(1))]),
    ),
]

# path, its prefix, its key
PATHS = [
    ("p:k", "p", "k"),
    ("a:b:c", "a:b", "c"),
    ("k", "", "k"),
    (":k", "", "k"),
    ("a:", "a", ""),
    ("a::b", "a:", "b"),
    ("", "", ""),
    (":", "", ""),
    ("::", ":", ""),
    ("P:K", "P", "K"),
    ("préfixe:clé-😀", "préfixe", "clé-😀"),
    ("STANDALONE#SQL_QUERY_STAGE:hash@0a1b", "STANDALONE#SQL_QUERY_STAGE", "hash@0a1b"),
    ("p:with,comma", "p", "with,comma"),
    ("p:nul\x00inside", "p", "nul\x00inside"),
]


@pytest.mark.parametrize("script", ADD, ids=str)
def test_add(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize(("path", "prefix", "key"), PATHS)
def test_a_path_is_split_at_the_last_colon(session: Session, path: str, prefix: str, key: str) -> None:
    session.play(
        Script(
            path,
            Do(add(path, "1"), [(nth(1), True, 1)]),
            Do(list_all(prefix), [(key.encode(), nth(1), b"pending", None)]),
            Do(get(path), [(b"1", None)]),
            Do(retrieve(path), [(b"1", None, 0, key.encode(), nth(1))]),
            Do(ack(path, "r"), [(True,)]),
            Do(result(path), [(b"r", b"success", nth(1), None)]),
        )
    )


def test_prefixes_are_compared_for_equality(session: Session) -> None:
    session.play(
        Script(
            "equality",
            Do(add("a:b:c"), [(nth(1), True, 1)]),
            Do(list_all("a"), []),
            Do(list_all("a:b:"), []),
            Do(list_all("A:B"), []),
            Do(list_all("a:b"), [(b"c", nth(1), b"pending", None)]),
        )
    )


def test_paths_with_the_same_prefix_and_key_are_different_items(session: Session) -> None:
    session.play(
        Script(
            "identity is the whole path",
            Do(add("k", "1"), [(nth(1), True, 1)]),
            Do(add(":k", "2"), [(nth(2), True, 2)]),
            Do(get("k"), [(b"1", None)]),
            Do(get(":k"), [(b"2", None)]),
            Do(add_and_retrieve("k", "3", 2), [(nth(1), False, 1, b"k", b"1", None)]),
            Do(active(""), [(b"k", nth(1), b"active", None)]),
        )
    )
