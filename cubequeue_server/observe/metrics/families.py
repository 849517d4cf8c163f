"""The table of simple metrics: name, meaning, and the number's name among `Sources.values` (docs/metrics.md).

A new metric is one row here, then `make generate`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, frozen=True)
class Family:
    """A metric without labels, or with one fixed `label`; `source` names its number."""

    name: str
    help: str
    source: str
    label: tuple[str, str] | None = None


def _labelled(name: str, help_: str, label: str, sources: Mapping[str, str]) -> Iterator[Family]:
    """One metric of several numbers; `sources` gives each number's value of the label."""
    return (Family(name, help_, source, (label, value)) for source, value in sources.items())


# Numbers that only rise.
TOTALS: Final = (
    Family("cubequeue_received_messages_total", "Messages received from clients.", "messages_in"),
    Family("cubequeue_sent_messages_total", "Messages sent to clients.", "messages_out"),
    Family("cubequeue_received_bytes_total", "Bytes of the messages received, without framing.", "bytes_in"),
    Family("cubequeue_sent_bytes_total", "Bytes of the messages sent, without framing.", "bytes_out"),
    Family("cubequeue_connections_accepted_total", "WebSocket connections opened.", "connections_accepted"),
    Family("cubequeue_connections_refused_total", "Handshakes refused: too many connections.", "connections_refused"),
    *_labelled(
        "cubequeue_connections_ended_total", "Connections that the server ended, by cause.", "cause",
        {
            "connections_evicted": "evicted",
            "connections_removed": "removed",
            "handshakes_dropped": "handshake",
            "peers_silent": "silent",
            "readers_slow": "slow",
            "messages_unfinished": "unfinished",
            "violations": "violation",
        },
    ),
    Family(
        "cubequeue_foreign_requests_refused_total",
        "WebSockets and pages refused for their Origin or Host.",
        "foreign_refused",
    ),
    *_labelled(
        "cubequeue_status_refused_total",
        "Status port: silent connections that made room, and requests refused because too many are being answered.",
        "kind",
        {"status_dropped": "connection", "status_refused": "request"},
    ),
    Family(
        "cubequeue_mysql_connections_refused_total",
        "Connections to the MySQL port refused, or dropped before their login: too many.",
        "mysql_refused",
    ),
    *_labelled(
        "cubequeue_repeats_total", "Repeated messages that were not executed again, by outcome.", "outcome",
        {"repeats_joined": "joined", "repeats_dropped": "dropped"},
    ),
    Family("cubequeue_answers_confirmed_total", "Kept answers known to have arrived.", "answers_confirmed"),
    Family("cubequeue_answers_refused_total", "Answers for which there was no room.", "answers_refused"),
    Family("cubequeue_answers_undelivered_total", "Answers whose clients had all gone.", "answers_undelivered"),
    *_labelled(
        "cubequeue_errors_total", "Requests answered with an error, by kind.", "kind",
        {
            "statement_errors": "refused",
            "syntax_errors": "syntax",
            "undecodable": "undecodable",
            "oversized": "oversized",
            "overloaded": "overloaded",
            "internal_errors": "internal",
        },
    ),
    Family("cubequeue_select_seconds_total", "Time spent on the evaluation of SELECTs.", "select_seconds"),
    Family("cubequeue_select_processes_total", "Processes started to evaluate SELECTs.", "select_helper_starts"),
    *_labelled(
        "cubequeue_select_processes_ended_total", "Such processes that ended before the server, by cause.", "cause",
        {
            "select_ended_time": "time",
            "select_ended_memory": "memory",
            "select_ended_size": "size",
            "select_ended_given_up": "given_up",
            "select_ended_died": "died",
            "select_ended_failed": "failed",
        },
    ),
    *_labelled(
        "cubequeue_upstream_statements_total", "Statements for the upstream CubeStore that ended, by outcome.",
        "outcome",
        {
            "upstream_statements_answered": "answered",
            "upstream_statements_unreachable": "unreachable",
            "upstream_statements_declined": "declined",
            "upstream_statements_lost": "lost",
            "upstream_statements_refused": "refused",
            "upstream_statements_oversized": "oversized",
            "upstream_statements_abandoned": "abandoned",
        },
    ),
    *_labelled(
        "cubequeue_upstream_bytes_total", "Bytes of messages to and from the upstream CubeStore.", "direction",
        {"upstream_bytes_sent": "sent", "upstream_bytes_received": "received"},
    ),
    Family("cubequeue_upstream_reconnects_total", "Lost upstream connections opened again.", "upstream_reconnects"),
    Family("cubequeue_upstream_resent_total", "Statements sent again after a lost connection.", "upstream_resent"),
    Family(
        "cubequeue_upstream_replies_dropped_total", "Upstream replies that nobody waited for.",
        "upstream_replies_unknown",
    ),
    *_labelled(
        "cubequeue_uploads_total", "Uploads that ended, by outcome.", "outcome",
        {
            "upstream_uploads_done": "done",
            "upstream_uploads_declined": "declined",
            "upstream_uploads_unreachable": "unreachable",
            "upstream_uploads_refused": "refused",
            "upstream_uploads_idle": "idle",
            "upstream_uploads_broken": "broken",
        },
    ),
    Family("cubequeue_upload_bytes_total", "Bytes of the bodies of uploads.", "upstream_upload_bytes"),
    Family("cubequeue_log_lines_dropped_total", "Log lines that could not be written.", "log_lines_dropped"),
    Family("cubequeue_cache_hits_total", "CACHE GET that found a live entry.", "cache_hits"),
    Family("cubequeue_cache_misses_total", "CACHE GET that found none.", "cache_misses"),
    Family("cubequeue_cache_evicted_keys_total", "Cache entries evicted to make room.", "cache_evicted_keys"),
    Family("cubequeue_cache_evicted_bytes_total", "Bytes of evicted cache entries.", "cache_evicted_bytes"),
    Family("cubequeue_cache_expired_keys_total", "Cache entries whose TTL ended.", "cache_expired_keys"),
    Family("cubequeue_cache_expired_bytes_total", "Bytes of expired cache entries.", "cache_expired_bytes"),
    Family("cubequeue_journal_groups_total", "Groups of changes written to the journal.", "journal_groups"),
    Family("cubequeue_journal_rows_total", "Rows written to the journal.", "journal_rows"),
    Family("cubequeue_journal_failures_total", "Writes of the journal that failed.", "journal_failures"),
    Family("cubequeue_store_calls_total", "Calls of this server to the shared store.", "store_calls"),
    Family("cubequeue_store_calls_repeated_total", "Calls sent again after a link was lost.", "store_calls_repeated"),
    Family("cubequeue_store_calls_unknown_total", "Calls of which nobody knows what came.", "store_calls_unknown"),
    Family("cubequeue_store_late_replies_total", "Times that a primary had to be confirmed.", "store_late_replies"),
    Family("cubequeue_store_connects_total", "Links made to primaries.", "store_connects"),
    Family("cubequeue_store_losses_total", "Links lost to primaries.", "store_link_losses"),
    Family("cubequeue_store_put_bytes_total", "Bytes of values written in pieces.", "store_large_bytes_put"),
    Family("cubequeue_store_read_bytes_total", "Bytes of values read in pieces.", "store_large_bytes_read"),
)  # fmt: skip

# Numbers that may fall.
GAUGES: Final = (
    Family("cubequeue_connections", "Open WebSocket connections.", "connections"),
    Family("cubequeue_mysql_connections", "Open connections of the MySQL port.", "mysql_connections"),
    Family("cubequeue_unfinished_message_bytes", "Bytes held of incomplete messages.", "unfinished_bytes"),
    Family("cubequeue_unread_answer_bytes", "Bytes of answers that slow clients have not read.", "unread_bytes"),
    Family("cubequeue_begun_answer_bytes", "Bytes of long answers that are being made, estimated.", "begun_bytes"),
    Family("cubequeue_largest_message_bytes", "The largest message since the start.", "largest_message_bytes"),
    Family(
        "cubequeue_upstream_up", "Whether the last attempt to reach the upstream CubeStore succeeded.", "upstream_is_up"
    ),
    Family("cubequeue_upstream_connections", "Open connections to the upstream CubeStore.", "upstream_connections"),
    Family("cubequeue_upstream_waiting", "Statements that wait for the upstream CubeStore.", "upstream_waiting"),
    Family("cubequeue_upstream_waiting_bytes", "Bytes kept of such statements.", "upstream_waiting_bytes"),
    Family("cubequeue_uploads", "Uploads that run.", "upstream_uploads"),
    Family(
        "cubequeue_upload_held_peak_bytes",
        "The most bytes that one upload has held.",
        "upstream_upload_held_peak_bytes",
    ),
    Family("cubequeue_requests_in_flight", "Requests received and not answered yet.", "in_flight"),
    Family("cubequeue_queues", "Queues that hold an item, or did a moment ago.", "queues"),
    Family("cubequeue_queue_bytes", "Bytes of payloads and extras of all items.", "queue_bytes"),
    Family("cubequeue_results", "Results that are kept, read or not.", "queue_results"),
    Family("cubequeue_result_bytes", "Bytes of kept results.", "queue_result_bytes"),
    Family("cubequeue_blocked_waiters", "RESULT_BLOCKING statements that wait for a result.", "waiters"),
    Family("cubequeue_kept_answers", "Answers kept for clients that ask again.", "answers"),
    Family("cubequeue_kept_answers_unconfirmed", "Kept answers not known to have arrived.", "answers_unconfirmed"),
    Family("cubequeue_kept_answer_bytes", "Bytes of all kept answers.", "answer_bytes"),
    *_labelled(
        "cubequeue_kept_answer_pool_bytes",
        "The same, with payloads or results (texts) and without (small).",
        "pool",
        {"answer_bytes_texts": "texts", "answer_bytes_small": "small"},
    ),
    Family(
        "cubequeue_kept_answer_owners_refused",
        "Users and addresses that used up their share of the room, and still hold answers.",
        "answer_owners_refused",
    ),
    Family("cubequeue_cache_keys", "Cache entries.", "cache_keys"),
    Family("cubequeue_cache_bytes", "Bytes of all cache entries.", "cache_bytes"),
    Family(
        "cubequeue_drop_guard_until_seconds",
        "Unix time at which the guard of tables ends; 0 when it is off.",
        "drop_guard_until_s",
    ),
    Family("cubequeue_journal_bytes", "Bytes of the journal on the disk.", "journal_bytes"),
    Family(
        "cubequeue_store_primaries", "Primaries of the shared store that this server is linked to.", "store_primaries"
    ),
    Family("cubequeue_store_calls_waiting", "Calls to the shared store without an outcome.", "store_calls_waiting"),
    Family(
        "cubequeue_store_memory_bytes", "Memory of the primaries that is used, at the last look.", "store_memory_bytes"
    ),
    Family("cubequeue_store_max_memory_bytes", "Their maxmemory together; 0 without.", "store_max_memory_bytes"),
    Family("cubequeue_journal_lag", "Changes applied and not yet as durable as the mode promises.", "journal_lag"),
    Family("cubequeue_journal_lag_seconds", "For how long at least the oldest of them waits.", "journal_lag_s"),
    Family("cubequeue_history_items", "Ended items that are remembered.", "history_items"),
    Family("cubequeue_history_bytes", "Bytes of them.", "history_bytes"),
)

# Values that the metrics of each queue add up to.
SHOWN_BY_QUEUE: Final = frozenset({"queue_items", "queue_pending", "queue_active"})
