"""Counters, histograms of durations, and the lag of the event loop: plain numbers that the metrics export."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from storage.vocabulary import Statement

# Slot 0 is the sum in nanoseconds. Slot n counts the durations of n bits: from 2^(n-1) to 2^n - 1 nanoseconds.
# The hot path adds with `histogram[ns.bit_length()] += 1; histogram[0] += ns` (0.1 µs); other callers use `observe`.
Histogram: TypeAlias = list[int]

LAST_SLOT: Final = 40  # 2^40 ns are 18 minutes; longer durations count in the last slot
_LAG_INTERVAL_S: Final = 0.25


def new_histogram() -> Histogram:
    """An empty histogram."""
    return [0] * (LAST_SLOT + 1)


def observe(histogram: Histogram, duration_ns: int) -> None:
    """Count a duration. A step of the clock may have made it negative or absurdly long. O(1)."""
    duration_ns = max(1, duration_ns)
    histogram[min(duration_ns.bit_length(), LAST_SLOT)] += 1
    histogram[0] += duration_ns


def count(histogram: Histogram) -> int:
    """How many durations were counted."""
    return sum(histogram[1:])


def sum_s(histogram: Histogram) -> float:
    """Their sum in seconds."""
    return histogram[0] / 1e9


def cumulative(histogram: Histogram, bits: Iterable[int]) -> Iterator[tuple[float, int]]:
    """For each number of bits, in rising order: the bound in seconds, and how many durations are below it."""
    total, slot = 0, 1
    for bound in bits:
        total += sum(histogram[slot : bound + 1])
        slot = bound + 1
        yield 2**bound / 1e9, total


def _histograms() -> defaultdict[type[Statement], Histogram]:
    return defaultdict(new_histogram)


@dataclass(slots=True)
class Counters:
    """Totals since the start, except what has `now` behind it, and `largest_message_bytes`, a maximum.

    `durations` has the processing time of each executed statement, from parsing to the encoded answer. `waits` has, for
    each statement that was answered later, the time from its execution to its answer.
    """

    durations: defaultdict[type[Statement], Histogram] = field(default_factory=_histograms)
    waits: defaultdict[type[Statement], Histogram] = field(default_factory=_histograms)
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    largest_message_bytes: int = 0

    connections: int = 0  # now
    connections_accepted: int = 0
    connections_refused: int = 0
    connections_evicted: int = 0  # by the limit per user
    connections_removed: int = 0  # their user was removed by a reload
    handshakes_dropped: int = 0  # to make room for newer ones, past `max_handshakes`
    peers_silent: int = 0  # sent no pong in time
    readers_slow: int = 0  # closed with 1008
    messages_unfinished: int = 0  # closed with 1008: a message was not completed in time
    unfinished_bytes: int = 0  # of incomplete messages, now
    unread_bytes: int = 0  # of answers that slow peers have not read, now
    begun_bytes: int = 0  # of long answers that are being made, estimated, now
    violations: int = 0  # broke the WebSocket protocol

    foreign_refused: int = 0  # requests of web pages, for their `Origin` or `Host`
    status_dropped: int = 0  # connections of the status port that made room for newer ones
    status_refused: int = 0  # requests there, past the limit

    mysql_connections: int = 0  # now
    mysql_refused: int = 0  # past the limit: the newest, or one that had not logged in

    repeats_joined: int = 0  # to the same statement in flight
    repeats_dropped: int = 0  # already answered on the same connection
    answers_undelivered: int = 0
    answers_confirmed: int = 0

    statement_errors: int = 0
    syntax_errors: int = 0
    undecodable: int = 0
    oversized: int = 0
    overloaded: int = 0  # past `max_in_flight` or `max_all_begun_bytes`
    internal_errors: int = 0

    select_seconds: float = 0.0  # of evaluation
    select_helper_starts: int = 0
    select_ended_time: int = 0  # helper processes that were ended, by cause
    select_ended_memory: int = 0
    select_ended_size: int = 0
    select_ended_given_up: int = 0
    select_ended_died: int = 0
    select_ended_failed: int = 0


class LoopLag:
    """How late the event loop runs a timer, four times a second; the histogram is `lags`."""

    def __init__(self) -> None:
        self.lags: Histogram = new_histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Start the timer on the running loop."""
        self._due_s = time.monotonic() + _LAG_INTERVAL_S  # the loop's own clock has whole milliseconds only
        self._timer = asyncio.get_running_loop().call_later(_LAG_INTERVAL_S, self._on_time)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        observe(self.lags, int((time.monotonic() - self._due_s) * 1e9))
        self.start()
