"""Durations by powers of two: a list of plain numbers, so that one costs the request next to nothing.

Slot 0 is the sum in nanoseconds, slot n counts the durations whose nanoseconds have n bits: from 2^(n-1) to 2^n - 1.
The hot path adds with `histogram[ns.bit_length()] += 1; histogram[0] += ns`, which is 0.1 µs; others call `observe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

Histogram: TypeAlias = list[int]

# 2^40 ns are 18 minutes; what takes longer counts as that.
_BITS: Final = 40


def new_histogram() -> Histogram:
    """One that has seen nothing."""
    return [0] * (_BITS + 1)


def observe(histogram: Histogram, duration_ns: int) -> None:
    """Count a duration, also one that a step of the clock made negative or absurdly long. O(1)."""
    duration_ns = max(1, duration_ns)
    histogram[min(duration_ns.bit_length(), _BITS)] += 1
    histogram[0] += duration_ns


def count(histogram: Histogram) -> int:
    """How many durations it has seen."""
    return sum(histogram[1:])


def sum_s(histogram: Histogram) -> float:
    """Their sum in seconds."""
    return histogram[0] / 1e9


def cumulative(histogram: Histogram, bits: Iterable[int]) -> Iterator[tuple[float, int]]:
    """For each of the rising numbers of bits: the bound in seconds, and how many durations are below it."""
    total, slot = 0, 1
    for bound in bits:
        total += sum(histogram[slot : bound + 1])
        slot = bound + 1
        yield 2**bound / 1e9, total
