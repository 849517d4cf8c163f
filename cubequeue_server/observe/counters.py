"""What the server has done since its start: plain numbers that the metrics export."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cubequeue_server.observe.histogram import Histogram, count, new_histogram
from storage.vocabulary import Statement


def _histograms() -> defaultdict[type[Statement], Histogram]:
    return defaultdict(new_histogram)


@dataclass(slots=True)
class Counters:
    """Totals, except `connections` and `unfinished_bytes` (now) and `largest_message_bytes` (a maximum).

    `durations` tells of every executed statement how long it kept the server busy, from its parsing to its encoded
    answer; `waits` tells of those that were answered later how long that took, from the end of the former.
    """

    durations: defaultdict[type[Statement], Histogram] = field(default_factory=_histograms)
    waits: defaultdict[type[Statement], Histogram] = field(default_factory=_histograms)
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    largest_message_bytes: int = 0

    connections: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    connections_evicted: int = 0  # by the cap per user
    connections_removed: int = 0  # of users that a reload removed
    handshakes_dropped: int = 0  # for newer ones, past `max_handshakes`
    peers_silent: int = 0  # dropped for want of a pong
    readers_slow: int = 0  # closed with 1008
    messages_unfinished: int = 0  # closed with 1008 for a message that did not end
    unfinished_bytes: int = 0  # of messages that have begun, now
    violations: int = 0  # closed for breaking the WebSocket protocol

    repeats_joined: int = 0  # of a statement in flight
    repeats_dropped: int = 0  # answered before on the same connection
    answers_undelivered: int = 0
    answers_confirmed: int = 0

    statement_errors: int = 0
    syntax_errors: int = 0
    undecodable: int = 0
    oversized: int = 0
    overloaded: int = 0  # past `max_in_flight`
    internal_errors: int = 0

    select_seconds: float = 0.0  # of evaluation
    select_helper_starts: int = 0
    select_ended_time: int = 0  # helpers that were ended, by cause
    select_ended_memory: int = 0
    select_ended_size: int = 0
    select_ended_given_up: int = 0
    select_ended_died: int = 0
    select_ended_failed: int = 0

    def executed(self, statement: type[Statement]) -> int:
        """How many statements of a kind were executed."""
        return count(self.durations[statement])
