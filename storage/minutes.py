"""What happened in a queue minute by minute, for the last 24 hours (`system.queue_minutes`)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

MINUTE_MS: Final = 60_000
KEPT_MINUTES: Final = 24 * 60

# Durations in milliseconds. Slot 0 is their sum. Slot n counts the durations of n bits, from 2^(n-1) to 2^n - 1 ms;
# slot 1 also counts those of less than a millisecond.
Durations: TypeAlias = list[int]

_BITS: Final = 48  # 2^48 ms are 8 900 years: no difference of two clock readings is longer
_KEPT_AN_HOUR: Final = 0.983  # of the weight of a minute, one minute later: a half after 40 minutes


class Minute(NamedTuple):
    """One minute of a queue: items added, claimed and ended in it, durations of theirs, and the items at its end.

    `failed` are those of `ended` that were not acknowledged, or acknowledged with an error. Percentiles are None
    without an item.
    """

    minute: int  # since the epoch
    added: int
    claimed: int
    ended: int
    failed: int
    wait_p50_ms: int | None
    wait_p95_ms: int | None
    run_p50_ms: int | None
    run_p95_ms: int | None
    pending: int
    active: int


class Totals(NamedTuple):
    """The totals of a queue at one moment."""

    added: int
    claimed: int
    ended: int
    failed: int
    waits: Sequence[int]
    runs: Sequence[int]


_WIDTH: Final = len(Minute._fields)
_NONE: Final = (1 << 32) - 1


def no_durations() -> Durations:
    """An empty histogram."""
    return [0] * (_BITS + 1)


def percentile(durations: Sequence[float], share: float) -> int | None:
    """The duration that `share` of all are below, interpolated between steps of × 2; None without any. O(bits)."""
    wanted, below = share * sum(durations[1:]), 0.0
    for bits, times in enumerate(durations[1:], 1):
        if times and below + times >= wanted:
            low = 0 if bits == 1 else 1 << (bits - 1)
            return int(low + ((1 << bits) - low) * (wanted - below) / times)
        below += times
    return None


class Minutes:
    """The minutes of one queue, at 44 bytes each. A minute in which nothing happened to an empty queue has no row.

    `waits` and `runs` are the durations of about the last hour in which there were any, the older the less they count.
    """

    __slots__ = ("_before", "_rows", "runs", "waits")

    def __init__(self) -> None:
        self._rows = array("I")
        self._before = Totals(0, 0, 0, 0, no_durations(), no_durations())  # at the end of the last minute
        self.waits: list[float] = [0.0] * (_BITS + 1)
        self.runs: list[float] = [0.0] * (_BITS + 1)

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH

    def measure(self, minute: int, totals: Totals, pending: int, active: int) -> Minute:
        """The minute that is running, so far. O(bits): ten microseconds."""
        before = self._before
        waits, runs = _difference(totals.waits, before.waits), _difference(totals.runs, before.runs)
        return Minute(
            minute,
            totals.added - before.added,
            totals.claimed - before.claimed,
            totals.ended - before.ended,
            totals.failed - before.failed,
            percentile(waits, 0.5),
            percentile(waits, 0.95),
            percentile(runs, 0.5),
            percentile(runs, 0.95),
            pending,
            active,
        )

    def close(self, minute: int, totals: Totals, pending: int, active: int) -> Minute | None:
        """End a minute; None if it has no row. O(bits): twenty microseconds."""
        before = self._before
        if totals[:4] == before[:4] and not pending and not active:
            return None
        row = self.measure(minute, totals, pending, active)
        self.waits = _recent(self.waits, totals.waits, before.waits)
        self.runs = _recent(self.runs, totals.runs, before.runs)
        self._before = totals._replace(waits=list(totals.waits), runs=list(totals.runs))
        self.restore(row)
        return row

    def restore(self, row: Minute) -> None:
        """Add a row as it was before."""
        self._rows.extend(_NONE if cell is None else min(cell, _NONE - 1) for cell in row)
        if len(self._rows) > KEPT_MINUTES * _WIDTH:
            del self._rows[:_WIDTH]

    def rows(self, since_minute: int = 0) -> Iterator[Minute]:
        """The minutes from then on, in the order in which they ended. O(rows), 2 µs each."""
        rows = self._rows
        first = len(rows)
        while first and rows[first - _WIDTH] >= since_minute:
            first -= _WIDTH
        for at in range(first, len(rows), _WIDTH):
            yield Minute._make(None if cell == _NONE else cell for cell in rows[at : at + _WIDTH])

    def recent(self, totals: Totals) -> tuple[list[float], list[float]]:
        """The waits and runs of about the last hour, with those of the minute that runs. O(bits)."""
        before = self._before
        return _recent(self.waits, totals.waits, before.waits), _recent(self.runs, totals.runs, before.runs)

    def drop_before(self, minute: int) -> None:
        """Drop older rows. O(rows dropped), and a copy of those that stay."""
        rows, at = self._rows, 0
        while at < len(rows) and rows[at] < minute:
            at += _WIDTH
        if at:
            del rows[:at]

    def absorb(self, other: Minutes) -> None:
        """The totals of another queue were added to this one's: they did not all happen in this minute."""
        mine, theirs = self._before, other._before
        self._before = Totals(
            mine.added + theirs.added,
            mine.claimed + theirs.claimed,
            mine.ended + theirs.ended,
            mine.failed + theirs.failed,
            [one + two for one, two in zip(mine.waits, theirs.waits, strict=True)],
            [one + two for one, two in zip(mine.runs, theirs.runs, strict=True)],
        )


def _difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    return [one - two for one, two in zip(now, before, strict=True)]


def _recent(recent: list[float], now: Sequence[int], before: Sequence[int]) -> list[float]:
    return [each * _KEPT_AN_HOUR + one - two for each, one, two in zip(recent, now, before, strict=True)]
