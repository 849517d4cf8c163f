"""What a `Server` can be told, apart from the store and the clock it works with."""

from __future__ import annotations

from dataclasses import dataclass

from storage.limits import MIB


@dataclass(slots=True, frozen=True)
class ServerOptions:
    """Where to listen and how far things may grow. Each limit has a counter and a test of one past it.

    `host` None or empty means all interfaces; `port` 0 an ephemeral port. An empty `announce_version` leaves the
    header out. `max_connections_per_user` 0 is no cap (wire.md §2). The size limits are those of CubeStore's
    settings: up to twice as much is read in order to be answered.
    """

    host: str | None = "127.0.0.1"
    port: int = 0
    backlog: int = 1024
    announce_version: str = "1.7.43"
    allowed_origins: frozenset[str] = frozenset()  # of web pages that may open WebSockets, in lower case

    max_message_bytes: int = 64 * MIB
    max_frame_bytes: int = 64 * MIB
    max_head_bytes: int = 16 * 1024
    max_discarded_bytes: int = 1024 * MIB  # of a body that was refused, read so that the refusal arrives

    max_handshakes: int = 1024  # sockets whose request has not arrived or was refused; the oldest makes room
    max_connections: int = 10_000
    max_connections_per_user: int = 0
    max_unfinished_bytes: int = 256 * MIB  # of messages not complete yet, of all connections
    message_timeout_s: float = 60.0  # for a message to be complete
    max_in_flight: int = 10_000  # requests of one connection that wait for something
    max_outbound_bytes: int = 256 * MIB  # of one connection; one past it closes with 1008
    max_unread_bytes: int = 512 * MIB  # of all connections; past it the one with most of them is closed with 1008
    max_begun_bytes: int = 2 * MIB  # of long answers that are made for one connection; above it it is not read from
    max_all_begun_bytes: int = 64 * MIB  # of all connections; statements past it are refused
    outbound_high_water_bytes: int = 1 * MIB  # above it the connection is not read from
    processing_kept_s: float = 3600.0  # how long a repeat joins a statement in flight (wire.md §3)

    ping_interval_s: float = 15.0
    proof_interval_s: float = 1.0  # between pings while answers wait for the proof of their arrival
    pong_timeout_s: float = 60.0
    handshake_timeout_s: float = 10.0  # silent for half of it, a client is taken for one of MySQL
    close_timeout_s: float = 5.0  # for the peer to answer a close, or to stop sending a refused body
    stop_timeout_s: float = 5.0

    slow_statement_ms: int = 100  # a statement that keeps the server busy for longer is logged

    tick_interval_s: float = 0.1
    tick_max_rows: int = 1_000
