"""CACHE (commands.md §5; state-machine.md §4)."""

from __future__ import annotations

import pytest

from storage.errors import InternalError, StatementError, UserError
from storage.limits import CacheLimits
from storage.vocabulary import Binary, CacheClear, QueueClear
from tests.audit import audit
from tests.conformance.conftest import Opener
from tests.conformance.engines import Limits
from tests.conformance.script import Do, Later, Script, Session, Tick, nth
from tests.conformance.words import add, cache_get, cache_keys, cache_set, get, incr, remove

TOO_LARGE = InternalError("number too large to fit in target type")
NO_DIGIT = InternalError("invalid digit found in string")

CACHE = [
    Script("GET of nothing is one row with NULL", Do(cache_get("p:k"), [(None,)])),
    Script(
        "SET inserts and overwrites",
        Do(cache_set("p:k", "1"), [(True,)]),
        Do(cache_get("p:k"), [(b"1",)]),
        Do(cache_set("p:k", "2"), [(True,)]),
        Do(cache_get("p:k"), [(b"2",)]),
    ),
    Script(
        "SET NX leaves a live entry alone",
        Do(cache_set("p:k", "1", nx=True), [(True,)]),
        Do(cache_set("p:k", "2", ttl_s=1, nx=True), [(False,)]),
        Later(9_000_000),
        Do(cache_get("p:k"), [(b"1",)]),
    ),
    Script(
        "a lock is free again when its TTL is over",
        Do(cache_set("lock:k", "1", ttl_s=300, nx=True), [(True,)]),
        Later(299_999),
        Do(cache_set("lock:k", "2", ttl_s=300, nx=True), [(False,)]),
        Later(1),
        Do(cache_set("lock:k", "2", ttl_s=300, nx=True), [(True,)]),
        Do(cache_get("lock:k"), [(b"2",)]),
    ),
    Script(
        "TTL is exact",
        Do(cache_set("p:k", "1", ttl_s=1), [(True,)]),
        Later(999),
        Do(cache_get("p:k"), [(b"1",)]),
        Later(1),
        Do(cache_get("p:k"), [(None,)]),
        Do(cache_keys("p:"), []),
    ),
    Script("TTL 0 is dead at once", Do(cache_set("p:k", "1", ttl_s=0), [(True,)]), Do(cache_get("p:k"), [(None,)])),
    Script(
        "TTL 0 over a live entry ends it",
        Do(cache_set("p:k", "1"), [(True,)]),
        Do(cache_set("p:k", "2", ttl_s=0), [(True,)]),
        Do(cache_get("p:k"), [(None,)]),
        Do(cache_keys("p"), []),
    ),
    Script(
        "SET without TTL lives for ever, even if it had one",
        Do(cache_set("p:k", "1", ttl_s=1), [(True,)]),
        Do(cache_set("p:k", "2"), [(True,)]),
        Later(99_000_000_000),
        Tick(),
        Do(cache_get("p:k"), [(b"2",)]),
    ),
    Script(
        "the longest TTL",
        Do(cache_set("p:k", "1", ttl_s=(1 << 32) - 1), [(True,)]),
        Later(((1 << 32) - 1) * 1000 - 1),
        Do(cache_get("p:k"), [(b"1",)]),
        Later(1),
        Do(cache_get("p:k"), [(None,)]),
    ),
    Script(
        "a value with a shorter TTL replaces the longer",
        Do(cache_set("p:k", "1", ttl_s=100), [(True,)]),
        Do(cache_set("p:k", "2", ttl_s=1), [(True,)]),
        Later(1_000),
        Do(cache_get("p:k"), [(None,)]),
    ),
    Script(
        "REMOVE",
        Do(remove("p:k"), []),
        Do(cache_set("p:k", "1"), [(True,)]),
        Do(remove("p:k"), []),
        Do(cache_get("p:k"), [(None,)]),
        Do(cache_keys("p"), []),
    ),
    Script(
        "CLEAR spares the queue, and QUEUE CLEAR the cache",
        Do(add("p:k", "q"), [(nth(1), True, 1)]),
        Do(cache_set("p:k", "1"), [(True,)]),
        Do(CacheClear(), []),
        Do(cache_get("p:k"), [(None,)]),
        Do(cache_keys("p"), []),
        Do(get("p:k"), [(b"q", None)]),
        Do(cache_set("p:k", "2"), [(True,)]),
        Do(QueueClear(), []),
        Do(cache_get("p:k"), [(b"2",)]),
    ),
    Script(
        "INCR begins at 1 and never expires",
        Do(incr("p:n"), [(b"1",)]),
        Do(incr("p:n"), [(b"2",)]),
        Later(99_000_000_000),
        Do(incr("p:n"), [(b"3",)]),
        Do(cache_get("p:n"), [(b"3",)]),
    ),
    Script(
        "INCR keeps the TTL",
        Do(cache_set("p:n", "5", ttl_s=10), [(True,)]),
        Later(9_999),
        Do(incr("p:n"), [(b"6",)]),
        Later(1),
        Do(cache_get("p:n"), [(None,)]),
        Do(incr("p:n"), [(b"1",)]),
        Later(99_000_000),
        Do(cache_get("p:n"), [(b"1",)]),
    ),
    Script(
        "INCR of a binary value",
        Do(cache_set("p:k", b"1"), [(True,)]),
        Do(incr("p:k"), UserError('Unable to increment cache item "p:k": value is binary')),
        Do(cache_get("p:k"), [(Binary(b"1"),)]),
    ),
    Script(
        "binary replaces text and text binary",
        Do(cache_set("p:k", "1"), [(True,)]),
        Do(cache_set("p:k", b"\xff"), [(True,)]),
        Do(cache_get("p:k"), [(Binary(b"\xff"),)]),
        Do(cache_set("p:k", ""), [(True,)]),
        Do(cache_get("p:k"), [(b"",)]),
    ),
    Script(
        "KEYS in the order of insertion; overwriting keeps the position",
        Do(cache_set("p:b", "1"), [(True,)]),
        Do(cache_set("p:a", "1"), [(True,)]),
        Do(incr("p:c"), [(b"1",)]),
        Do(cache_set("p:b", "2"), [(True,)]),
        Do(incr("p:a"), [(b"2",)]),
        Do(cache_get("p:b"), [(b"2",)]),
        Do(cache_keys("p"), [(b"p:b",), (b"p:a",), (b"p:c",)]),
        Do(remove("p:b"), []),
        Do(cache_set("p:b", "3"), [(True,)]),
        Do(cache_keys("p"), [(b"p:a",), (b"p:c",), (b"p:b",)]),
    ),
    Script(
        "an expired entry that is set again comes last",
        Do(cache_set("p:a", "1", ttl_s=1), [(True,)]),
        Do(cache_set("p:b", "1"), [(True,)]),
        Later(1_000),
        Do(cache_set("p:a", "2"), [(True,)]),
        Do(cache_keys("p"), [(b"p:b",), (b"p:a",)]),
    ),
    Script(
        "a step back of the clock brings nothing back",
        Do(cache_set("p:a", "1", ttl_s=10), [(True,)]),
        Later(10_000),
        Do(cache_get("p:a"), [(None,)]),
        Later(-5_000),
        Do(cache_get("p:a"), [(None,)]),
        Do(cache_keys("p"), []),
        Do(cache_set("p:a", "2", nx=True), [(True,)]),
    ),
]

# argument of KEYS, the paths it finds
KEYS = [
    ("a", ["a:", "a:b"]),
    ("a:", ["a:", "a:b"]),
    ("a:*", ["a:", "a:b"]),
    ("a:b", ["a:b:c"]),
    ("a:b:", ["a:b:c"]),
    ("a::", ["a::x"]),
    ("a::*", ["a::x"]),
    ("a:*:*", []),
    ("", ["k", ":k"]),
    (":", ["k", ":k"]),
    (":*", ["k", ":k"]),
    ("*", []),
    ("A", []),
    ("é", ["é:1"]),
]

# value, what INCR makes of it
INCRS: list[tuple[str, str | StatementError]] = [
    ("0", "1"),
    ("-1", "0"),
    ("+5", "6"),
    ("-0", "1"),
    ("007", "8"),
    ("0" * 400 + "9", "10"),
    ("9223372036854775806", "9223372036854775807"),
    ("-9223372036854775808", "-9223372036854775807"),
    ("9223372036854775807", TOO_LARGE),
    ("9223372036854775808", TOO_LARGE),
    ("9" * 5_000, TOO_LARGE),
    ("-9223372036854775809", InternalError("number too small to fit in target type")),
    ("", InternalError("cannot parse integer from empty string")),
    ("+", NO_DIGIT),
    ("-", NO_DIGIT),
    (" 1", NO_DIGIT),
    ("1 ", NO_DIGIT),
    ("1\n", NO_DIGIT),
    ("1_0", NO_DIGIT),
    ("1.0", NO_DIGIT),
    ("--1", NO_DIGIT),
    ("x", NO_DIGIT),
    ("\u0661", NO_DIGIT),
]


@pytest.mark.parametrize("script", CACHE, ids=str)
def test_cache(session: Session, script: Script) -> None:
    session.play(script)


@pytest.mark.parametrize(("prefix", "paths"), KEYS)
def test_keys_cuts_one_tail_and_compares(session: Session, prefix: str, paths: list[str]) -> None:
    for path in ["k", "a:", "a:b", "a:b:c", ":k", "a::x", "ab:c", "é:1"]:
        session.rows(cache_set(path, "1"))
    assert session.rows(cache_keys(prefix)) == [(path.encode(),) for path in paths]


@pytest.mark.parametrize(("value", "then"), INCRS, ids=range(len(INCRS)))
def test_incr(session: Session, value: str, then: str | StatementError) -> None:
    expected = then if isinstance(then, StatementError) else [(then.encode(),)]
    left = value if isinstance(then, StatementError) else then
    session.play(
        Script(
            value,
            Do(cache_set("p:n", value), [(True,)]),
            Do(incr("p:n"), expected),
            Do(cache_get("p:n"), [(left.encode(),)]),
        )
    )


@pytest.mark.parametrize("nx", [False, True])
@pytest.mark.parametrize(("size", "fits"), [(1_048_575, True), (1_048_576, False), (2_100_000, False)])
def test_the_largest_value(open_session: Opener, size: int, fits: bool, nx: bool) -> None:
    session = open_session(Limits(cache=CacheLimits(max_entry_bytes=1 << 20)))
    statement = cache_set("a:b:K", "x" * size, nx=nx)
    if fits:
        assert session.rows(statement) == [(True,)]
    else:
        assert session.refusal(statement).wire_text == (
            "Unable to SET cache with 'K' key, exceeds maximum allowed size for payload: "
            f"{size / 1e6:.2f} MB, max allowed: 1.05 MB"
        )
        assert session.rows(cache_get("a:b:K")) == [(None,)]


def test_background_work_frees_what_expired(session: Session) -> None:
    for number in range(50):
        session.rows(cache_set(f"p:{number}", "1", ttl_s=1 + number % 2))
    session.now_ms += 1_000
    session.tick(max_rows=1)
    audit(session.store)
    assert len(session.rows(cache_keys("p"))) == 25
