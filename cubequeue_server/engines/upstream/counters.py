"""What the pass-through has done since the start, and what it holds now: plain numbers that the metrics export."""

from __future__ import annotations

from dataclasses import dataclass, field

from cubequeue_server.observe.counters import Histogram, new_histogram


@dataclass(slots=True)
class UpstreamCounters:
    """Totals, but for `is_up`, `connections`, `waiting`, `waiting_bytes` and `uploads`, which are as of now.

    `seconds` tells of each answered statement how long it took from its arrival.
    """

    is_up: int = 0
    version: str = ""
    connections: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    seconds: Histogram = field(default_factory=new_histogram)

    statements_answered: int = 0
    statements_unreachable: int = 0
    statements_declined: int = 0  # by the CubeStore, for want of credentials
    statements_lost: int = 0  # with their connection, and not sent again
    statements_refused: int = 0  # past a limit here
    statements_oversized: int = 0  # message or answer
    statements_abandoned: int = 0  # by clients that went away
    replies_unknown: int = 0  # whose id nobody waited for
    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    resent: int = 0

    uploads: int = 0
    uploads_done: int = 0
    uploads_declined: int = 0  # by the CubeStore, with an error of its own
    uploads_unreachable: int = 0
    uploads_refused: int = 0  # past CUBEQUEUE_MAX_UPLOADS
    uploads_idle: int = 0
    uploads_broken: int = 0  # by an end of either side
    upload_bytes: int = 0
    upload_held_peak_bytes: int = 0
