"""The one table of settings: each described once, for parsing, checking, help and documentation (config.md §1).

A setting can be given as a flag (`--cache-max-size`), as an environment variable (CubeStore's own name where there is
one, always `CUBEQUEUE_` and its name), and as a key of the TOML file (`cache_max_size`).

Adding a setting: one row here and one field of `Settings` (settings.py) of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cubequeue_server.settings.values import (
    GIB,
    KIB,
    MIB,
    SECOND_MS,
    Address,
    Boolean,
    Choice,
    Duration,
    Endpoint,
    Integer,
    Kind,
    Patterns,
    Port,
    Secret,
    Size,
    Text,
    Texts,
    UpstreamUrl,
)
from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy, HistoryLimits, QueueLimits

# What the process itself takes: code, the journal's buffers, a thousand connections, a few large messages on their way.
# Of a small limit it may be most: a quarter is for what is kept all the same.
PROCESS_BYTES = 152 * MIB


@dataclass(slots=True, frozen=True)
class Ceiling:
    """Another setting that bounds this one: at most `setting` minus `less`."""

    setting: str
    less: int = 0


@dataclass(slots=True, frozen=True)
class Setting:
    """One row of the table.

    `minimum` and `maximum` are inclusive. `memory_percent` lowers the default to that share of the memory that the
    process may use beyond `PROCESS_BYTES`. `no_effect` says why an explicitly given value changes nothing here; the
    start says so aloud.
    """

    name: str
    kind: Kind
    default: object
    help: str
    cubestore: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    ceiling: Ceiling | None = None
    memory_percent: int | None = None
    no_effect: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def own_variable(self) -> str:
        return "CUBEQUEUE_" + self.name.upper()

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be seen: it has no flag, for command lines can be read by everyone."""
        return isinstance(self.kind, Secret)

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that say it, the one that wins first."""
        return (self.own_variable, *self.cubestore)

    @property
    def main_variable(self) -> str:
        """The name to show: CubeStore's, where it has one."""
        return self.cubestore[0] if self.cubestore else self.own_variable


_QUEUE, _CACHE, _ANSWERS, _HISTORY = QueueLimits(), CacheLimits(), AnswerLimits(), HistoryLimits()
_LOG_LEVELS = ("error", "warn", "info", "debug", "trace")

_LISTENERS = (
    Setting(
        "http_bind", Address(may_be_off=False), Endpoint("0.0.0.0", 3030),  # noqa: S104  # a server is to be reached
        "Where clients connect: the WebSocket at /ws.", ("CUBESTORE_HTTP_BIND_ADDR",),
    ),
    Setting("http_port", Port(may_be_off=False), 3030, "Only the port of it.", ("CUBESTORE_HTTP_PORT",)),
    Setting(
        "status_bind", Address(), Endpoint("0.0.0.0", 3031),  # noqa: S104
        "Where the probes /livez and /readyz, /metrics and a live page are.", ("CUBESTORE_STATUS_BIND_ADDR",),
    ),
    Setting("status_port", Port(), 3031, "Only the port of it; 0 is off.", ("CUBESTORE_STATUS_PORT",)),
    Setting(
        "status_cancel",
        Boolean(),
        False,
        "Whether users with credentials may cancel items and remove cache entries on the page.",
    ),
    Setting(
        "mysql_bind", Address(), Endpoint("0.0.0.0", 3306),  # noqa: S104
        "Where MySQL clients can look into queues and cache.", ("CUBESTORE_BIND_ADDR",),
    ),
    Setting("mysql_port", Port(), 3306, "Only the port of it; 0 is off.", ("CUBESTORE_PORT",)),
    Setting(
        "query_timeout", Duration(), 120 * SECOND_MS, "How long a SELECT over the tables of queue and cache may take.",
        ("CUBESTORE_QUERY_TIMEOUT",), 1 * SECOND_MS, 86_400 * SECOND_MS,
    ),
    Setting(
        "select_max_memory", Size(), 128 * MIB, "Memory that the evaluation of SELECTs may take, in its own process.",
        minimum=8 * MIB, maximum=16 * GIB, memory_percent=25,
    ),
    Setting(
        "announce_version",
        Text("VERSION", r"(?i)none|\d+\.\d+\.\d+(-[0-9a-z.-]+)?", "a version such as 1.7.43, or none"),
        "1.7.43",
        "The CubeStore version that clients are told: it decides which statements they send.",
    ),
)  # fmt: skip

_ACCESS = (
    Setting(
        "user", Text("NAME", r"[^:\x00-\x1f\x7f]*", "a name without a colon"), "",
        "The user that clients must name, together with the password.",
    ),
    Setting("password", Secret(), "", "The password of the user."),
    Setting(
        "password_file", Text("FILE"), "",
        "A file that holds the password; the password itself is CUBEQUEUE_PASSWORD and has no flag.",
    ),
    Setting(
        "users_file", Text("FILE"), "",
        "More users, each a line of user:password or user:hash, the hash by `cubequeue hash-password`.",
    ),
    Setting(
        "tls_cert", Text("FILE"), "",
        "The certificate chain in PEM form: with it all three ports speak TLS only.",
    ),
    Setting("tls_key", Text("FILE"), "", "Its private key in PEM form, not encrypted."),
    Setting(
        "allowed_origins",
        Texts("ORIGINS", r"(?i)[a-z][a-z0-9+.-]*://[^\s/,]+|null", "an origin such as https://admin.example.com"), (),
        "Web pages that may open WebSockets, with commas between them. Cube is no web page and needs none.",
    ),
    Setting(
        "allowed_hosts", Texts("NAMES", r"(?i)\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*", "a host name such as queue.example.com"),
        (),
        "Names under which the page on the status port is served, with commas between them, beside addresses, names"
        " without a dot and names inside a cluster. .example.com is all that end so.",
    ),
)  # fmt: skip

_CONNECTIONS = (
    Setting(
        "max_connections", Integer(), 10_000, "Open WebSocket connections at the same time.",
        minimum=1, maximum=1_000_000,
    ),
    Setting(
        "max_connections_per_user", Integer(), 0,
        "The same for each user that clients name; the oldest makes room. 0 is no cap.",
        ("CUBESTORE_MAX_WS_CONNECTIONS_PER_USER",), 0, 1_000_000,
    ),
    Setting(
        "transport_max_message_size", Size(), 64 * MIB, "The largest message; up to twice that is refused politely.",
        ("CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE",), 16 * MIB, 256 * MIB,
    ),
    Setting(
        "transport_max_frame_size", Size(), 64 * MIB, "The largest frame of a message.",
        ("CUBESTORE_TRANSPORT_MAX_FRAME_SIZE",), 4 * MIB, 256 * MIB,
    ),
    Setting(
        "unfinished_max_size", Size(), 256 * MIB,
        "Bytes of messages not complete yet, of all connections; one of the largest size always fits.",
        minimum=16 * MIB, maximum=64 * GIB, memory_percent=20,
    ),
    Setting(
        "unread_max_size", Size(), 512 * MIB,
        "Bytes of answers that slow clients have not read, of all connections; past it the slowest is closed.",
        minimum=64 * MIB, maximum=64 * GIB, memory_percent=25,
    ),
    Setting(
        "join_in_flight", Duration(), 3_600 * SECOND_MS,
        "How long a repeated message joins its first one while that is in progress.",
        ("CUBESTORE_DROP_WS_PROCESSING_MESSAGES_AFTER",), 1 * SECOND_MS, 86_400 * SECOND_MS,
    ),
    Setting(
        "answers_keep", Duration(), _ANSWERS.keep_ms, "How long answers are kept for clients that ask again.",
        minimum=0, maximum=3_600 * SECOND_MS,
    ),
    Setting(
        "answers_keep_undelivered", Duration(), _ANSWERS.keep_undelivered_ms,
        "The same for answers nobody could be given.",
        ("CUBESTORE_DROP_WS_COMPLETE_MESSAGES_AFTER",), 0, 86_400 * SECOND_MS,
    ),
    Setting(
        "answers_max_size", Size(), _ANSWERS.max_bytes, "Bytes of all kept answers together.",
        minimum=1 * MIB, maximum=64 * GIB, memory_percent=20,
    ),
)  # fmt: skip

_QUEUE_SETTINGS = (
    Setting(
        "queue_max_items", Integer(), _QUEUE.max_items, "Items in all queues together; one more is refused.",
        minimum=1, maximum=1_000_000_000,
    ),
    Setting(
        "queue_max_size", Size(), _QUEUE.max_bytes, "Bytes of payloads and results together; more is refused.",
        minimum=1 * MIB, maximum=1024 * GIB, memory_percent=25,
    ),
    Setting(
        "queue_max_waiters", Integer(), _QUEUE.max_waiters, "Statements that wait for a result at the same time.",
        minimum=1, maximum=100_000_000,
    ),
    Setting(
        "queue_results_expire", Duration(), _QUEUE.results_expire_ms, "How long a result can be read.",
        ("CUBESTORE_QUEUE_RESULTS_EXPIRE",), 1 * SECOND_MS, 300 * SECOND_MS,
    ),
    Setting(
        "restart_grace", Duration(), _QUEUE.restart_grace_ms,
        "How long nothing counts as stalled after a start from a data directory: workers need a moment to come back.",
        minimum=0, maximum=600 * SECOND_MS,
    ),
)  # fmt: skip

_HISTORY_SETTINGS = (
    Setting(
        "history_max_items", Integer(), _HISTORY.max_items, "Ended items that are remembered for people; 0 is none.",
        minimum=0, maximum=1_000_000,
    ),
    Setting(
        "history_max_size", Size(), _HISTORY.max_bytes,
        "Bytes of them: of each payload the first 4096 bytes and the last 512.",
        minimum=0, maximum=16 * GIB, memory_percent=4,
    ),
    Setting(
        "history_keep", Duration(), _HISTORY.keep_ms, "How long they are remembered.",
        minimum=0, maximum=30 * 86_400 * SECOND_MS,
    ),
    Setting(
        "client_names",
        Text("ID=NAME,…", r"[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*", "pairs such as 10.0.0.7=worker-1, with commas"), "",
        "Names of clients for people, by process id or address: api-1 says more than a UUID.",
    ),
    Setting(
        "client_dns", Boolean(), False, "Whether clients get the names that reverse DNS has for their addresses.",
    ),
)  # fmt: skip

_CACHE_SETTINGS = (
    Setting(
        "cache_max_size", Size(), _CACHE.max_bytes, "Bytes of all cache values; beyond it entries are evicted.",
        ("CUBESTORE_CACHE_MAX_SIZE",), 32 * MIB, 16 * GIB, memory_percent=25,
    ),
    Setting(
        "cache_max_keys", Integer(), _CACHE.max_keys, "Cache entries; beyond it entries are evicted.",
        ("CUBESTORE_CACHE_MAX_KEYS",), 1, 1_000_000_000,
    ),
    Setting(
        "cache_max_entry_size", Size(), _CACHE.max_entry_bytes, "The largest cache value.",
        ("CUBESTORE_CACHE_MAX_ENTRY_SIZE",), 1, None, Ceiling("transport_max_message_size", MIB),
    ),
    Setting(
        "cache_policy", Choice(tuple(policy.value for policy in EvictionPolicy), "POLICY"), _CACHE.policy.value,
        "Which entries are evicted first.", ("CUBESTORE_CACHE_POLICY",),
    ),
    Setting(
        "cache_eviction_loop", Duration(), _CACHE.eviction_interval_ms,
        "How often the limits of the cache are checked.",
        ("CUBESTORE_CACHE_EVICTION_LOOP",), 1 * SECOND_MS, 7_200 * SECOND_MS,
    ),
    Setting(
        "cache_eviction_proactive_size_threshold", Size(), _CACHE.proactive_size_bytes,
        "An entry larger than this is dropped early when it is about to expire.",
        ("CUBESTORE_CACHE_EVICTION_PROACTIVE_SIZE_THRESHOLD",), 128 * KIB, None, Ceiling("cache_max_entry_size"),
    ),
    Setting(
        "cache_eviction_proactive_ttl_threshold", Duration(), _CACHE.proactive_ttl_ms, "How early that is.",
        ("CUBESTORE_CACHE_EVICTION_PROACTIVE_TTL_THRESHOLD",), 0, 300 * SECOND_MS,
    ),
    Setting(
        "cache_lfu_log_factor", Integer(), _CACHE.lfu_log_factor, "How slowly the use counter of LFU grows.",
        ("CUBESTORE_CACHE_LFU_LOG_FACTOR",), 0, 255,
    ),
    Setting(
        "cache_lfu_decay_time", Duration(), _CACHE.lfu_decay_ms, "After how long without use it falls.",
        ("CUBESTORE_CACHE_LFU_DECAY_TIME",), 1 * SECOND_MS, 86_400 * SECOND_MS,
    ),
    Setting(
        "cache_keep", Patterns(), _CACHE.keep,
        "Patterns of the cache keys that are evicted last, under every policy: marks of pre-aggregations, locks.",
    ),
    Setting(
        "drop_guard", Duration(), _CACHE.drop_guard_ms,
        "After the cache began empty, how long Cube is kept from dropping tables without marks; 0 is off.",
        (), 0, 30 * 86_400 * SECOND_MS,
    ),
)  # fmt: skip

UPSTREAM = (
    Setting(
        "upstream", UpstreamUrl(), None,
        "A CubeStore for everything but queue and cache: ws:// or wss://[user:password@]host:3030.",
    ),
    Setting(
        "upstream_user", Text("NAME", r"[^:\x00-\x1f\x7f]*", "a name without a colon"), "",
        "The user that the CubeStore wants, where the URL names none.",
    ),
    Setting("upstream_password_file", Text("FILE"), "", "A file that holds the password of this user."),
    Setting(
        "upstream_tls_ca", Text("FILE"), "",
        "Authorities in PEM form that sign the CubeStore's certificate; by default those of the system.",
    ),
    Setting(
        "upstream_timeout", Duration(), 60 * SECOND_MS,
        "How long a statement waits for a connection to the CubeStore; one that runs there has no limit here.",
        minimum=100, maximum=3_600 * SECOND_MS,
    ),
    Setting(
        "upstream_max_waiting", Integer(), 10_000, "Statements that wait for an answer of the CubeStore.",
        minimum=1, maximum=1_000_000,
    ),
    Setting(
        "upstream_max_waiting_size", Size(), 256 * MIB,
        "Bytes kept of them, to send them again; beyond it those that run there fail with their connection.",
        minimum=1 * MIB, maximum=64 * GIB, memory_percent=20,
    ),
    Setting(
        "upstream_reply_max_size", Size(), 100 * MIB, "The largest answer of the CubeStore that is passed on.",
        minimum=1 * MIB, maximum=1 * GIB,
    ),
    Setting(
        "upstream_required", Boolean(), False, "Whether SELECT 1 and /readyz fail while the CubeStore is away.",
    ),
    Setting(
        "upload_idle_timeout", Duration(), 60 * SECOND_MS,
        "How long an upload to the CubeStore may pause while a side owes bytes of its body.",
        minimum=100, maximum=3_600 * SECOND_MS,
    ),
    Setting("max_uploads", Integer(), 100, "Uploads at the same time.", minimum=1, maximum=10_000),
)  # fmt: skip

_METRICS = (
    Setting(
        "metrics_format", Choice(("statsd", "dogstatsd"), "FORMAT"), "statsd",
        "What metrics are sent as, once this or one of the next is given; tags are sent as dogstatsd only.",
        ("CUBESTORE_METRICS_FORMAT",),
    ),
    Setting(
        "metrics_address", Text("HOST", r"[^\s/]+", "a host"), "127.0.0.1", "The host of the StatsD that they go to.",
        ("CUBESTORE_METRICS_ADDRESS",),
    ),
    Setting(
        "metrics_port", Integer("PORT"), 8125, "Its UDP port.", ("CUBESTORE_METRICS_PORT",), minimum=1, maximum=65_535,
    ),
    Setting(
        "metrics_bind_address", Text("HOST", r"[^\s/]+", "a host"), "any", "The local address that they come from.",
        ("CUBESTORE_METRICS_BIND_ADDRESS",),
    ),
    Setting(
        "slow_statement", Duration(), 100, "Statements that keep the server busy for so long are logged.",
        minimum=1, maximum=3_600 * SECOND_MS,
    ),
)  # fmt: skip

_PROCESS = (
    Setting("log_level", Choice(_LOG_LEVELS, "LEVEL"), "info", "What is logged to stderr.", ("CUBESTORE_LOG_LEVEL",)),
    Setting(
        "log_format", Choice(("auto", "text", "json"), "FORMAT"), "auto",
        "auto is text for a terminal and JSON otherwise.",
    ),
    Setting(
        "telemetry", Boolean(), False, "Understood for CubeStore's sake: nothing is ever sent anywhere.",
        ("CUBESTORE_TELEMETRY", "CUBEJS_TELEMETRY"),
    ),
    Setting(
        "data_dir", Text("DIR"), "", "Where queue and cache are kept across stops; without it they are in memory.",
        ("CUBESTORE_DATA_DIR",),
    ),
    Setting(
        "durability", Choice(("auto", "memory", "relaxed", "strict"), "MODE"), "auto",
        "What an answer survives: relaxed a kill of the process, strict a power loss, memory neither;"
        " auto is relaxed with a data directory.",
    ),
    Setting(
        "cache_durability", Choice(("auto", "memory"), "MODE"), "auto",
        "memory leaves the cache out of the data directory; auto keeps it as the queue is kept.",
    ),
)  # fmt: skip

_SHARED_STORE = (
    Setting(
        "store", Text("URL"), "",
        "A Valkey or Redis that any number of servers share, such as valkey://host:6379, valkeys:// for TLS,"
        " valkey+sentinel://host,host/name or valkey+cluster://host,host; without it each server has its own state.",
    ),
    Setting("store_user", Text("NAME"), "", "The user that this server is there."),
    Setting("store_password_file", Text("FILE"), "", "A file that holds the user's password."),
    Setting("store_sentinel_password_file", Text("FILE"), "", "A file that holds the password of the Sentinels."),
    Setting(
        "store_tls_ca", Text("FILE"), "", "The certificates in PEM form to trust over TLS; else those of the system.",
    ),
    Setting(
        "store_name", Text("NAME", r"[0-9A-Za-z._-]{1,64}", "1 to 64 letters, digits, dots, dashes"), "cq",
        "What its keys begin with; servers of one name share their state.",
    ),
    Setting(
        "store_shards", Integer(), 64, "How many parts the state has; the first start decides.", minimum=1, maximum=256,
    ),
    Setting(
        "store_durability", Choice(("relaxed", "replicated"), "MODE"), "relaxed",
        "When an answer leaves: relaxed at once, replicated when replicas have what it rests on.",
    ),
    Setting(
        "store_replicas", Integer(), 1, "How many replicas those are.", minimum=1, maximum=8,
    ),
    Setting(
        "store_timeout", Duration(), 30 * SECOND_MS, "How long a statement waits for the store.",
        minimum=1 * SECOND_MS, maximum=600 * SECOND_MS,
    ),
    Setting(
        "store_late", Duration(), 500,
        "A reply that took longer is not believed before the primary has been confirmed.",
        minimum=10, maximum=60 * SECOND_MS,
    ),
)  # fmt: skip

_NO_SNAPSHOTS = "the journal is one local database without snapshots"
_NO_REMOTE = "there is no remote storage here"
_NO_GAUGES = "metrics are sent once a second"
_SELF_TUNED = "the store does this work continuously by itself"
_ONE_NODE = "there is one node here, and no worker"


def _without_effect(variable: str, why: str) -> Setting:
    name = variable.removeprefix("CUBESTORE_").lower()
    return Setting(name, Text("VALUE"), "", "No effect: " + why + ".", (variable,), no_effect=why)


_WITHOUT_EFFECT = (
    *(_without_effect("CUBESTORE_" + name, why) for name, why in (
        ("REMOTE_DIR", _NO_REMOTE),
        ("NO_UPLOAD", _NO_REMOTE),
        ("CHECK_WS_ORPHANED_MESSAGES_INTERVAL", _SELF_TUNED),
        ("CACHESTORE_GC_LOOP", _SELF_TUNED),
        ("CACHE_EVICTION_BATCH_SIZE", _SELF_TUNED),
        ("CACHE_TTL_PERSIST_LOOP", _SELF_TUNED),
        ("CACHE_PERSIST_BATCH_SIZE", _SELF_TUNED),
        ("CACHE_TTL_NOTIFY_CHANNEL", _SELF_TUNED),
        ("CACHE_TTL_BUFFER_MAX_SIZE", _SELF_TUNED),
        ("CACHE_COMPACTION_TRIGGER_SIZE", _SELF_TUNED),
        ("CACHESTORE_LOG_ENABLED", _NO_SNAPSHOTS),
        ("CACHESTORE_METRICS_LOOP", _NO_GAUGES),
        ("MINIMUM_CACHESTORE_SNAPSHOTS_COUNT", _NO_SNAPSHOTS),
        ("CACHESTORE_SNAPSHOTS_LIFETIME", _NO_SNAPSHOTS),
        ("SQL_PARSER_RECURSION_LIMIT", "the nesting of SQL has a fixed bound"),
        ("SERVER_NAME", _ONE_NODE),
        ("META_ADDR", _ONE_NODE),
        ("META_PORT", _ONE_NODE),
        ("WORKERS", _ONE_NODE),
        ("WORKER_PORT", _ONE_NODE),
        ("SELECT_WORKERS", _ONE_NODE),
    )),
)  # fmt: skip

GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "listeners": _LISTENERS,
    "access (files are read again on SIGHUP)": _ACCESS,
    "connections and repeated requests": _CONNECTIONS,
    "queue": _QUEUE_SETTINGS,
    "cache": _CACHE_SETTINGS,
    "history and names of clients": _HISTORY_SETTINGS,
    "a CubeStore behind": UPSTREAM,
    "metrics and slow statements": _METRICS,
    "process": _PROCESS,
    "shared store": _SHARED_STORE,
    "understood, without effect in this version": _WITHOUT_EFFECT,
}
TABLE: tuple[Setting, ...] = tuple(setting for group in GROUPS.values() for setting in group)
BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in TABLE}

# Families of CubeStore's variables that have no effect here, by prefix.
FAMILIES_WITHOUT_EFFECT: Mapping[str, str] = {
    "CUBESTORE_S3_": _NO_REMOTE,
    "CUBESTORE_MINIO_": _NO_REMOTE,
    "CUBESTORE_GCS_": _NO_REMOTE,
    "CUBESTORE_AWS_": _NO_REMOTE,
}

CONFIG_VARIABLE = "CUBEQUEUE_CONFIG"
# Read by the commands that talk to a server, which may have the same environment.
CLIENT_VARIABLES = ("CUBEQUEUE_URL",)
