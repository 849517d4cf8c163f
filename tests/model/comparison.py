"""When two engines gave the same answer, and when an eviction was one that the policy allows."""

from __future__ import annotations

from storage.errors import InternalError, StatementError, UserError
from storage.limits import EvictionPolicy
from storage.vocabulary import Binary, Cell, Result
from tests.model.json_text import OTHER_TEXT, same_json
from tests.model.naive_cache import NaiveCache
from tests.model.records import BoundError, Entry, JsonTextError, OversizeError

_LRU = EvictionPolicy.ALLKEYS_LRU
_TTL = EvictionPolicy.ALLKEYS_TTL
# A run removes 115 % of what is over the soft limit, and that is at most a quarter of it and what a write adds
# (commands.md §5, "amount"): 15 % of those is how far below the soft limit a run aims.
_BELOW = 0.15
# What an engine may account for an entry beside its texts (commands.md §5, "accounted size"), its path among them.
_ENTRY_OVERHEAD_BYTES = 170


def assert_same(expected: Result | StatementError, actual: Result | StatementError) -> None:
    """Same names, same cells; texts of errors are equal where the specification lists them."""
    if isinstance(expected, StatementError):
        assert isinstance(actual, StatementError), f"should be refused with {expected!r}: {actual!r}"
        _assert_same_error(expected, actual)
    else:
        assert isinstance(actual, Result), f"should answer {expected!r}: {actual!r}"
        assert expected.columns.names == actual.columns.names
        assert len(expected.rows) == len(actual.rows), f"{expected!r} != {actual!r}"
        for one, other in zip(expected.rows, actual.rows, strict=True):
            for name, mine, theirs in zip(expected.columns.names, one, other, strict=True):
                assert _same_cell(name, mine, theirs), f"{name}: {expected!r} != {actual!r}"


def _assert_same_error(expected: StatementError, actual: StatementError) -> None:
    match expected:
        case BoundError():
            assert isinstance(actual, UserError)
            assert expected.text in actual.text
        case OversizeError():
            assert isinstance(actual, UserError)
            assert actual.text.startswith(expected.text.partition("payload: ")[0])
        case JsonTextError():
            assert isinstance(actual, InternalError)
            assert actual.text == expected.text or expected.text == OTHER_TEXT
        case _:
            assert (type(actual), actual.text) == (type(expected), expected.text)


def _same_cell(name: str, one: Cell, other: Cell) -> bool:
    if name == "extra" and not (isinstance(one, int | float) or isinstance(other, int | float)):
        return same_json(one, other)
    return _kind(one) is _kind(other) and one == other


def _kind(cell: Cell) -> type:
    return Binary if isinstance(cell, Binary) else bytes if isinstance(cell, bytes) else type(cell)


def assert_allowed_victims(
    cache: NaiveCache, victims: list[Entry], survivors: list[Entry], held: tuple[int, int], now_ms: int
) -> None:
    """Check what an engine evicted against those that it might have evicted instead (commands.md §5, "Eviction").

    `held` are the keys and bytes of the engine now, entries that expired and wait for their removal included.
    """
    by_policy = [victim for victim in victims if not cache.is_proactive_victim(victim, now_ms)]
    if not by_policy:
        return
    held_keys, held_bytes = held
    if cache.limits.policy is _LRU:
        assert max(v.used for v in by_policy) < min((s.used for s in survivors), default=cache.uses + 1)
    if cache.limits.policy is _TTL:
        assert max(map(_end, by_policy)) <= min(map(_end, survivors), default=float("inf"))
    limits = cache.limits
    row_bytes = limits.max_entry_bytes + _ENTRY_OVERHEAD_BYTES
    few_keys = held_keys < limits.max_keys - _BELOW * (limits.max_keys / 4 + 1) - 1
    few_bytes = held_bytes < limits.max_bytes - _BELOW * (limits.max_bytes / 4 + row_bytes) - row_bytes
    assert not (few_keys and few_bytes), "an eviction went on far below the soft limits"


def _end(entry: Entry) -> float:
    return float("inf") if entry.expire_ms is None else entry.expire_ms
