"""Each statement of commands.md §5, alone."""

from __future__ import annotations

import pytest

from storage.cache.entry import incremented
from storage.cache.prefixes import prefix_of_argument
from storage.cache.statements import ABSENT, NOT_SET, SET
from storage.errors import InternalError, StatementError, UserError
from storage.keys import key_of, prefix_of
from storage.limits import CacheLimits
from storage.vocabulary import (
    EMPTY_RESULT,
    KEY_COLUMNS,
    SUCCESS_COLUMNS,
    VALUE_COLUMNS,
    Binary,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Result,
    Statement,
)
from tests.audit import audit
from tests.storage.cache_world import World

U32_MAX = (1 << 32) - 1
TOO_LARGE = "number too large to fit in target type"
TOO_SMALL = "number too small to fit in target type"
INVALID = "invalid digit found in string"
EMPTY = "cannot parse integer from empty string"


@pytest.mark.parametrize(
    ("statement", "result"),
    [
        (CacheSet(b"p:k", b"v"), Result(SUCCESS_COLUMNS, [(True,)])),
        (CacheSet(b"p:k", b"v", nx=True), Result(SUCCESS_COLUMNS, [(True,)])),
        (CacheGet(b"p:k"), Result(VALUE_COLUMNS, [(None,)])),
        (CacheKeys(b"p:"), Result(KEY_COLUMNS, [])),
        (CacheIncr(b"p:k"), Result(VALUE_COLUMNS, [(b"1",)])),
        (CacheRemove(b"p:k"), EMPTY_RESULT),
        (CacheClear(), EMPTY_RESULT),
    ],
)
def test_on_an_empty_cache(statement: Statement, result: Result) -> None:
    assert World().run(statement) == result


def test_constant_answers_are_one_object_each() -> None:
    world = World()
    assert world.run(CacheSet(b"k", b"v")) is SET
    assert world.run(CacheSet(b"k", b"v", nx=True)) is NOT_SET
    assert world.run(CacheGet(b"missing")) is ABSENT


def test_a_value_comes_back_as_the_object_that_was_sent() -> None:
    world = World()
    value = Binary(b"\x00\xff")
    world.set(b"k", value)
    assert world.get(b"k") is value


@pytest.mark.parametrize("value", [b"", b"\x00", "\U0001f600".encode(), b"x" * 5_000_000])
def test_any_value_is_kept(value: bytes) -> None:
    world = World()
    assert world.set(b"p:k", value) is True
    assert world.get(b"p:k") == value


class TestTimeToLive:
    @pytest.mark.parametrize(
        ("ttl_s", "passed_ms", "is_live"),
        [
            (None, 1 << 50, True),
            (0, 0, False),
            (1, 0, True),
            (1, 999, True),
            (1, 1000, False),
            (U32_MAX, U32_MAX * 1000 - 1, True),
            (U32_MAX, U32_MAX * 1000, False),
            (1 << 200, 1 << 50, True),
        ],
    )
    @pytest.mark.parametrize("ticks", [False, True])
    def test_is_exact(self, ttl_s: int | None, passed_ms: int, is_live: bool, ticks: bool) -> None:
        world = World()
        assert world.set(b"p:k", b"v", ttl_s) is True
        world.pass_ms(passed_ms)
        if ticks:
            world.settle()
        assert world.get(b"p:k") == (b"v" if is_live else None)
        assert world.keys(b"p") == ([b"p:k"] if is_live else [])
        assert world.set(b"p:k", b"w", nx=True) is not is_live

    @pytest.mark.parametrize(
        ("first_s", "second_s", "passed_ms", "is_live"),
        [(1, None, 1 << 40, True), (1, 2, 1999, True), (9, 1, 1000, False), (None, 1, 1000, False), (9, 0, 0, False)],
    )
    def test_the_last_set_decides(
        self, first_s: int | None, second_s: int | None, passed_ms: int, is_live: bool
    ) -> None:
        world = World()
        world.set(b"k", b"v", first_s)
        world.set(b"k", b"w", second_s)
        world.pass_ms(passed_ms)
        world.settle()
        assert world.get(b"k") == (b"w" if is_live else None)

    def test_set_nx_on_a_live_entry_keeps_its_ttl(self) -> None:
        world = World()
        world.set(b"k", b"v", 10)
        assert world.set(b"k", b"w", 100, nx=True) is False
        world.pass_ms(10_000)
        assert world.get(b"k") is None

    def test_incr_keeps_the_ttl_and_begins_without_one(self) -> None:
        world = World()
        world.set(b"k", b"41", 10)
        world.pass_ms(9_999)
        assert world.incr(b"k") == b"42"
        world.pass_ms(1)
        assert world.incr(b"k") == b"1"
        world.pass_ms(1 << 40)
        assert world.incr(b"k") == b"2"

    def test_what_expired_stays_gone_when_the_clock_steps_back(self) -> None:
        world = World()
        world.set(b"p:k", b"v", 10)
        world.pass_ms(10_000)
        assert world.get(b"p:other") is None
        world.pass_ms(-5_000)
        assert world.get(b"p:k") is None
        assert world.keys(b"p") == []
        assert world.gauge("expired_keys") == 1

    def test_what_is_written_after_a_step_back_lives_by_the_new_time(self) -> None:
        world = World()
        world.pass_ms(1_000_000)
        world.get(b"k")
        world.pass_ms(-900_000)
        world.set(b"k", b"v", 1)
        assert world.get(b"k") == b"v"
        world.settle()
        world.pass_ms(999)
        assert world.get(b"k") == b"v"


class TestKeys:
    @pytest.mark.parametrize(
        ("argument", "prefix"),
        [
            (b"a", b"a"),
            (b"a:", b"a"),
            (b"a:*", b"a"),
            (b"a:b:", b"a:b"),
            (b"a::", b"a:"),
            (b"a:*:*", b"a:*"),
            (b"a:*:", b"a:*"),
            (b"a::*", b"a:"),
            (b"a*", b"a*"),
            (b"*", b"*"),
            (b":*", b""),
            (b":", b""),
            (b"", b""),
        ],
    )
    def test_cuts_one_tail_off_the_argument(self, argument: bytes, prefix: bytes) -> None:
        assert prefix_of_argument(argument) == prefix

    @pytest.mark.parametrize(
        ("path", "prefix", "key"),
        [
            (b"a:b:c", b"a:b", b"c"),
            (b"abc", b"", b"abc"),
            (b"abc:", b"abc", b""),
            (b":abc", b"", b"abc"),
            (b":", b"", b""),
            (b"", b"", b""),
            (b"a::b", b"a:", b"b"),
        ],
    )
    def test_splits_a_path_at_the_last_colon(self, path: bytes, prefix: bytes, key: bytes) -> None:
        assert (prefix_of(path), key_of(path)) == (prefix, key)

    def test_compares_the_whole_prefix(self) -> None:
        world = World()
        for path in (b"a:1", b"a:b:2", b"ab:3", b"4", b"A:5", b":6"):
            world.set(path, b"")
        assert world.keys(b"a:") == [b"a:1"]
        assert world.keys(b"a:b") == [b"a:b:2"]
        assert world.keys(b"") == [b"4", b":6"]
        assert world.keys(b"a:b:*") == [b"a:b:2"]
        assert world.keys(b"b") == []

    def test_come_in_the_order_of_insertion(self) -> None:
        world = World()
        for path in (b"p:3", b"p:1", b"p:2", b"p:4"):
            world.set(path, b"1", 10 if path == b"p:3" else None)
        world.set(b"p:1", b"5")
        world.incr(b"p:2")
        world.get(b"p:1")
        assert world.keys(b"p") == [b"p:3", b"p:1", b"p:2", b"p:4"]
        world.remove(b"p:2")
        world.set(b"p:2", b"1")
        assert world.keys(b"p") == [b"p:3", b"p:1", b"p:4", b"p:2"]
        world.pass_ms(10_000)
        world.set(b"p:3", b"1", nx=True)
        assert world.keys(b"p") == [b"p:1", b"p:4", b"p:2", b"p:3"]

    def test_leave_out_what_expired_whether_or_not_it_was_removed(self) -> None:
        world = World()
        for number in range(10):
            world.set(b"p:%d" % number, b"", number)
        world.pass_ms(4_000)
        live = [b"p:%d" % number for number in range(5, 10)]
        assert world.keys(b"p") == live
        world.settle()
        assert world.keys(b"p") == live


class TestIncr:
    @pytest.mark.parametrize(
        ("text", "then"),
        [
            (b"0", b"1"),
            (b"41", b"42"),
            (b"-1", b"0"),
            (b"-0", b"1"),
            (b"+5", b"6"),
            (b"007", b"8"),
            (b"-" + b"0" * 100 + b"7", b"-6"),
            (b"9223372036854775806", b"9223372036854775807"),
            (b"-9223372036854775808", b"-9223372036854775807"),
        ],
    )
    def test_adds_one(self, text: bytes, then: bytes) -> None:
        world = World()
        world.set(b"k", text)
        assert world.incr(b"k") == then
        assert world.get(b"k") == then

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (b"", EMPTY),
            (b"+", INVALID),
            (b"-", INVALID),
            (b"abc", INVALID),
            (b"1.0", INVALID),
            (b"1e3", INVALID),
            (b" 1", INVALID),
            (b"1 ", INVALID),
            (b"1\n", INVALID),
            (b"1_000", INVALID),
            (b"+-1", INVALID),
            (b"0x1", INVALID),
            (b"\xff", INVALID),
            ("٣".encode(), INVALID),
            (b"9223372036854775807", TOO_LARGE),
            (b"9223372036854775808", TOO_LARGE),
            (b"9" * 1_000_000, TOO_LARGE),
            (b"-9223372036854775809", TOO_SMALL),
            (b"-" + b"9" * 1_000_000, TOO_SMALL),
        ],
    )
    def test_refuses_what_is_no_64_bit_number_and_changes_nothing(self, text: bytes, error: str) -> None:
        world = World()
        world.set(b"k", text, 10)
        before = world.cache.gauges()
        with pytest.raises(InternalError) as refused:
            world.incr(b"k")
        assert refused.value.wire_text == f"Internal: {error}"
        assert world.get(b"k") == text
        assert world.cache.gauges() == before | {"cache_hits": 1}

    def test_refuses_a_binary_value(self) -> None:
        with pytest.raises(UserError) as refused:
            incremented(b"p:k", Binary(b"1"))
        assert refused.value.wire_text == 'Unable to increment cache item "p:k": value is binary'

    def test_starts_anew_after_expiry_whatever_the_value_was(self) -> None:
        world = World()
        world.set(b"k", Binary(b"\xff"), 1)
        world.pass_ms(1_000)
        assert world.incr(b"k") == b"1"


class TestLargestValue:
    @pytest.mark.parametrize("nx", [False, True])
    @pytest.mark.parametrize(
        ("path", "size", "limit", "text"),
        [
            (
                b"a:b:K",
                2_100_000,
                1 << 20,
                "'K' key, exceeds maximum allowed size for payload: 2.10 MB, max allowed: 1.05 MB",
            ),
            (
                b"K",
                1_048_576,
                1 << 20,
                "'K' key, exceeds maximum allowed size for payload: 1.05 MB, max allowed: 1.05 MB",
            ),
            (b"a:", 1_000, 1_000, "'' key, exceeds maximum allowed size for payload: 1 kB, max allowed: 1 kB"),
            ("a:é".encode(), 999, 20, "'é' key, exceeds maximum allowed size for payload: 999 B, max allowed: 20 B"),
        ],
    )
    def test_is_one_byte_under_the_limit(self, path: bytes, size: int, limit: int, text: str, nx: bool) -> None:
        world = World(CacheLimits(max_entry_bytes=limit))
        world.set(path, b"old")
        with pytest.raises(StatementError) as refused:
            world.set(path, b"x" * size, nx=nx)
        assert refused.value.wire_text == f"Unable to SET cache with {text}"
        assert isinstance(refused.value, UserError)
        assert world.get(path) == b"old"
        assert world.set(path, b"x" * (limit - 1)) is True

    def test_counts_the_value_only(self) -> None:
        world = World(CacheLimits(max_entry_bytes=10))
        assert world.set(b"x" * 1_000, b"x" * 9) is True


class TestRemoveAndClear:
    def test_remove_frees_the_path(self) -> None:
        world = World()
        world.set(b"p:k", b"v", 5)
        world.remove(b"p:k")
        assert world.get(b"p:k") is None
        assert world.keys(b"p") == []
        assert world.set(b"p:k", b"w", nx=True) is True
        audit(world.cache)

    def test_clear_drops_everything_and_the_cache_goes_on(self) -> None:
        world = World()
        for number in range(100):
            world.set(b"p%d:k" % (number % 7), b"v" * number, number or None)
        world.clear()
        audit(world.cache)
        assert world.gauge("keys") == world.gauge("bytes") == 0
        assert world.keys(b"p1") == []
        world.set(b"p1:k", b"new", 1)
        world.settle()
        assert world.get(b"p1:k") == b"new"
        audit(world.cache)
