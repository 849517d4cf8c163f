"""Where settings come from, what they make, and each way in which a start is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cubequeue_server.settings.help import effective_lines
from cubequeue_server.settings.resolve import Loaded, SettingsError, StoreSettings, load_settings
from cubequeue_server.settings.store_address import Kind, StoreAddress
from cubequeue_server.settings.table import BY_NAME, TABLE, UPSTREAM, Setting
from cubequeue_server.settings.upstream import UpstreamSettings
from cubequeue_server.settings.values import GIB, MIB, Endpoint, UpstreamAddress
from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy, HistoryLimits, QueueLimits


def load(flags: dict[str, str] | None = None, config: str | None = None, **environ: str) -> Loaded:
    return load_settings(flags or {}, environ, config)


def refusal(flags: dict[str, str] | None = None, config: str | None = None, **environ: str) -> str:
    with pytest.raises(SettingsError) as error:
        load(flags, config, **environ)
    text = str(error.value)
    assert "\n" not in text
    return text


# Another value than the default for each setting, as text and as it comes out.
OTHER: dict[str, tuple[str, Any]] = {
    "http_bind": ("127.0.0.1:4000", Endpoint("127.0.0.1", 4000)),
    "http_port": ("4001", 4001),
    "status_bind": ("127.0.0.1:4002", Endpoint("127.0.0.1", 4002)),
    "status_port": ("4003", 4003),
    "mysql_bind": ("127.0.0.1:4004", Endpoint("127.0.0.1", 4004)),
    "mysql_port": ("4005", 4005),
    "query_timeout": ("5s", 5_000),
    "select_max_memory": ("16MiB", 16 * MIB),
    "announce_version": ("1.6.65", "1.6.65"),
    "user": ("ann", "ann"),
    "password": (" s3cret ", " s3cret "),
    "password_file": ("/p", "/p"),
    "users_file": ("/u", "/u"),
    "tls_cert": ("/c", "/c"),
    "tls_key": ("/k", "/k"),
    "allowed_origins": ("https://a.example, null", ("https://a.example", "null")),
    "allowed_hosts": ("page.example,.inside.example", ("page.example", ".inside.example")),
    "max_connections": ("5", 5),
    "max_connections_per_user": ("7", 7),
    "join_in_flight": ("2m", 120_000),
    "transport_max_message_size": ("128MiB", 128 * MIB),
    "transport_max_frame_size": ("5MB", 5_000_000),
    "unfinished_max_size": ("32MiB", 32 * MIB),
    "unread_max_size": ("128MiB", 128 * MIB),
    "answers_keep": ("10m", 600_000),
    "answers_keep_undelivered": ("20", 20_000),
    "answers_max_size": ("1GiB", GIB),
    "queue_max_items": ("7", 7),
    "queue_max_size": ("2GiB", 2 * GIB),
    "queue_max_waiters": ("8", 8),
    "queue_results_expire": ("300", 300_000),
    "restart_grace": ("5", 5_000),
    "history_max_items": ("7", 7),
    "history_max_size": ("1MiB", MIB),
    "history_keep": ("1h", 3_600_000),
    "client_names": ("a=api-1", "a=api-1"),
    "client_dns": ("true", True),
    "cache_max_size": ("32MiB", 32 * MIB),
    "cache_max_keys": ("9", 9),
    "cache_max_entry_size": ("2MiB", 2 * MIB),
    "cache_policy": ("sampled-lfu", "sampled-lfu"),
    "cache_eviction_loop": ("7200", 7_200_000),
    "cache_eviction_proactive_size_threshold": ("131072", 131_072),
    "cache_eviction_proactive_ttl_threshold": ("0", 0),
    "cache_lfu_log_factor": ("11", 11),
    "cache_lfu_decay_time": ("61", 61_000),
    "cache_keep": ("a*, b:*", (b"a*", b"b:*")),
    "drop_guard": ("0", 0),
    "metrics_format": ("dogstatsd", "dogstatsd"),
    "metrics_address": ("statsd.internal", "statsd.internal"),
    "metrics_port": ("8126", 8126),
    "metrics_bind_address": ("10.0.0.1", "10.0.0.1"),
    "slow_statement": ("2", 2_000),
    "status_cancel": ("true", True),
    "log_level": ("trace", "trace"),
    "log_format": ("json", "json"),
    "telemetry": ("true", True),
    "data_dir": ("/d", "/d"),
    "durability": ("memory", "memory"),
    "cache_durability": ("memory", "memory"),
    "store": ("valkey://store:6400", "valkey://store:6400"),
    "store_user": ("cube", "cube"),
    "store_password_file": ("/s", "/s"),
    "store_sentinel_password_file": ("/t", "/t"),
    "store_tls_ca": ("/a", "/a"),
    "store_name": ("staging", "staging"),
    "store_shards": ("16", 16),
    "store_durability": ("replicated", "replicated"),
    "store_replicas": ("2", 2),
    "store_timeout": ("10", 10_000),
    "store_late": ("200ms", 200),
    "upstream": ("wss://cubestore", UpstreamAddress(True, "cubestore", 3030)),
    "upstream_user": ("bob", "bob"),
    "upstream_password_file": ("/q", "/q"),
    "upstream_tls_ca": ("/ca", "/ca"),
    "upstream_timeout": ("5", 5_000),
    "upstream_max_waiting": ("3", 3),
    "upstream_max_waiting_size": ("2MiB", 2 * MIB),
    "upstream_reply_max_size": ("3MiB", 3 * MIB),
    "upstream_required": ("true", True),
    "upload_idle_timeout": ("7", 7_000),
    "max_uploads": ("4", 4),
}
SHARED = {name for name in OTHER if name == "store" or name.startswith("store_")}
EFFECTIVE = [setting for setting in TABLE if setting.no_effect is None]
INEFFECTIVE = [setting for setting in TABLE if setting.no_effect is not None]


def test_the_table_of_this_test_is_complete() -> None:
    assert set(OTHER) == {setting.name for setting in EFFECTIVE}


@pytest.mark.parametrize("setting", EFFECTIVE, ids=lambda setting: setting.name)
def test_each_variable_flag_and_key_sets_it(setting: Setting, tmp_path: Path) -> None:
    text, value = OTHER[setting.name]
    for variable in setting.variables:
        loaded = load(None, None, **{variable: text})
        assert loaded.values[setting.name] == value
        assert loaded.origins[setting.name].label == variable
        needs_upstream = setting in UPSTREAM and setting.name != "upstream"
        without = (f"{variable} has no effect: CUBEQUEUE_UPSTREAM is not set",)
        assert loaded.warnings == (without if needs_upstream else ())
        if needs_upstream:
            assert load(None, None, CUBEQUEUE_UPSTREAM="ws://cubestore", **{variable: text}).warnings == ()
    assert load({setting.name: text}).values[setting.name] == value
    file = tmp_path / "settings.toml"
    file.write_text(f'{setting.name} = "{text}"\n')
    assert load(None, str(file)).values[setting.name] == value


def test_precedence_is_flag_environment_file_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("cache_max_keys = 1\n")
    both = {"CUBESTORE_CACHE_MAX_KEYS": "2"}
    assert load().settings.cache.max_keys == 100_000
    assert load(None, str(file)).settings.cache.max_keys == 1
    assert load(None, str(file), **both).settings.cache.max_keys == 2
    assert load({"cache_max_keys": "3"}, str(file), **both).settings.cache.max_keys == 3


def test_our_variable_goes_before_cubestores() -> None:
    loaded = load(None, None, CUBESTORE_CACHE_MAX_KEYS="2", CUBEQUEUE_CACHE_MAX_KEYS="3")
    assert loaded.settings.cache.max_keys == 3


def test_the_file_can_be_named_by_a_variable_and_holds_typed_values(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('cache_max_keys = 5\ntelemetry = true\nanswers_keep = 1.5\nlog_level = "debug"\n')
    loaded = load(None, None, CUBEQUEUE_CONFIG=str(file))
    assert (loaded.settings.cache.max_keys, loaded.settings.log_level) == (5, "debug")
    assert loaded.settings.answers.keep_ms == 1500
    assert loaded.warnings == ()


def test_empty_variables_are_not_set_and_blanks_do_not_matter() -> None:
    assert load(None, None, CUBESTORE_HTTP_PORT="", CUBESTORE_LOG_LEVEL=" debug ").settings.log_level == "debug"


def test_defaults_are_the_limits_defaults() -> None:
    settings = load().settings
    assert settings.queue == QueueLimits()
    assert settings.cache == CacheLimits()
    assert settings.answers == AnswerLimits()
    assert (settings.http, settings.status) == (Endpoint("0.0.0.0", 3030), Endpoint("0.0.0.0", 3031))
    assert settings.announce_version == "1.7.43"


def test_values_reach_the_limits() -> None:
    settings = load({name: text for name, (text, _) in OTHER.items() if name not in SHARED}).settings
    assert settings.queue == QueueLimits(
        max_items=7,
        max_bytes=2 * GIB,
        max_waiters=8,
        results_expire_ms=300_000,
        restart_grace_ms=5_000,
        history=HistoryLimits(max_items=7, max_bytes=MIB, keep_ms=3_600_000),
    )
    assert settings.client_names == {"a": "api-1"}
    assert settings.client_dns
    assert settings.cache == CacheLimits(
        max_keys=9,
        max_bytes=32 * MIB,
        max_entry_bytes=2 * MIB,
        policy=EvictionPolicy.SAMPLED_LFU,
        eviction_interval_ms=7_200_000,
        proactive_size_bytes=131_072,
        proactive_ttl_ms=0,
        lfu_log_factor=11,
        lfu_decay_ms=61_000,
        keep=(b"a*", b"b:*"),
        drop_guard_ms=0,
    )
    assert settings.answers == AnswerLimits(max_bytes=GIB, keep_ms=600_000, keep_undelivered_ms=20_000)
    assert settings.upstream == UpstreamSettings(
        UpstreamAddress(True, "cubestore", 3030), "bob", "/q", "/ca", 5_000, 3, 2 * MIB, 3 * MIB, True, 7_000, 4
    )
    assert settings.max_connections == 5
    assert settings.max_connections_per_user == 7
    assert settings.join_in_flight_ms == 120_000
    assert settings.transport_max_message_size == 128 * MIB
    assert settings.transport_max_frame_size == 5_000_000


def test_a_shared_store() -> None:
    assert load().settings.store is None
    store = load({name: OTHER[name][0] for name in SHARED}).settings.store
    assert store == StoreSettings(
        StoreAddress(Kind.SINGLE, (("store", 6400),), has_tls=False),
        user="cube",
        password_file="/s",
        sentinel_password_file="/t",
        tls_ca="/a",
        name="staging",
        shards=16,
        durability="replicated",
        replicas=2,
        timeout_ms=10_000,
        late_ms=200,
    )


STORE_ADDRESSES = [
    ("valkey://h", Kind.SINGLE, (("h", 6379),), False, "", 0),
    ("rediss://h:6400/3", Kind.SINGLE, (("h", 6400),), True, "", 3),
    ("valkeys://[::1]:6400", Kind.SINGLE, (("::1", 6400),), True, "", 0),
    ("redis+sentinel://a,b:5/cube", Kind.SENTINEL, (("a", 26379), ("b", 5)), False, "cube", 0),
    ("valkeys+cluster://a,b,c:7000", Kind.CLUSTER, (("a", 6379), ("b", 6379), ("c", 7000)), True, "", 0),
]


@pytest.mark.parametrize(("text", "kind", "hosts", "has_tls", "master_name", "database"), STORE_ADDRESSES)
def test_the_address_of_a_store(
    text: str, kind: Kind, hosts: tuple[tuple[str, int], ...], has_tls: bool, master_name: str, database: int
) -> None:
    store = load({"store": text}).settings.store
    assert store is not None
    assert store.address == StoreAddress(kind, hosts, has_tls, master_name, database)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"store": "http://h"}, "an address is wanted such as valkey://host:6379"),
        ({"store": "valkey+twins://h"}, "an address is wanted such as"),
        ({"store": "valkey://"}, "an address is wanted such as"),
        ({"store": "valkey://me:secret@h"}, "no credentials belong here"),
        ({"store": "valkey://a,b"}, "one host is wanted"),
        ({"store": "valkey://h:99999"}, "Port out of range"),
        ({"store": "valkey://h/name"}, "is no number of a database"),
        ({"store": "valkey+cluster://h/1"}, "is no number of a database"),
        ({"store": "valkey+sentinel://h"}, "the name that the sentinels have for the primary is missing"),
        ({"store": "valkey://h", "data_dir": "/d"}, "--data-dir=/d: the state is in the store that --store names"),
        ({"store": "valkey://h", "durability": "relaxed"}, "--durability=relaxed: the state is in the store"),
        ({"store": "valkey://h", "store_late": "30s"}, "--store-late=30s: it must be below CUBEQUEUE_STORE_TIMEOUT"),
    ],
)
def test_what_is_no_shared_store(flags: dict[str, str], reason: str) -> None:
    text = refusal(flags)
    assert reason in text
    assert "secret" not in text


def test_what_has_no_effect_with_a_shared_store() -> None:
    own = {"cache_keep": "a*", "drop_guard": "60"}
    assert load(own).warnings == ()
    assert load({**own, "store": "valkey://h"}).warnings == (
        "--cache-keep has no effect with a shared store",
        "--drop-guard has no effect with a shared store",
    )
    assert load({"store": "valkey://h", "drop_guard": "0"}).warnings == ()


URLS = [
    ("ws://cubestore:3031", UpstreamAddress(False, "cubestore", 3031)),
    ("WS://cubestore/", UpstreamAddress(False, "cubestore", 3030)),
    ("ws://[::1]:1/ws", UpstreamAddress(False, "::1", 1)),
    ("wss://cube:p%40ss:w%2Frd@h:1", UpstreamAddress(True, "h", 1, "cube", "p@ss:w/rd")),
    ("ws://cube@h", UpstreamAddress(False, "h", 3030, "cube", "")),
]


@pytest.mark.parametrize(("text", "address"), URLS)
def test_where_a_cubestore_is(text: str, address: UpstreamAddress) -> None:
    settings = load(None, None, CUBEQUEUE_UPSTREAM=text).settings.upstream
    assert settings is not None
    assert settings.address == address
    assert address.password == "" or address.password not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    "text",
    [
        "cube:s3cret@h", "http://cube:s3cret@h", "ws://cube:s3cret@", "ws://cube:s3cret@h:0", "ws://cube:s3cret@h:65536",
        "ws://cube:s3cret@h/other", "ws://cube:s3cret@h?x=1", "ws://cube:s3@cret@h", "ws://",
    ],
)  # fmt: skip
def test_a_url_of_another_form_is_refused_without_what_is_secret(text: str) -> None:
    said = refusal(None, None, CUBEQUEUE_UPSTREAM=text)
    assert "not ws:// or wss://[user:password@]host[:port]" in said
    assert "cret" not in said


def test_credentials_in_a_flag_are_refused() -> None:
    assert refusal({"upstream": "ws://cube:s3cret@h"}) == (
        "--upstream=ws://***@h: everyone can read command lines: set CUBEQUEUE_UPSTREAM, or a user and _PASSWORD_FILE"
    )


def test_the_effective_settings_show_no_credentials() -> None:
    lines = "\n".join(effective_lines(load(None, None, CUBEQUEUE_UPSTREAM="ws://cube:s3cret@h")))
    assert "ws://h:3030" in lines
    assert "s3cret" not in lines


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().settings.log_level = "debug"  # type: ignore[misc]


# Listeners

LISTENERS = [
    ({}, {"CUBESTORE_HTTP_PORT": "4000"}, Endpoint("0.0.0.0", 4000)),
    ({}, {"CUBESTORE_HTTP_BIND_ADDR": "127.0.0.1:5000"}, Endpoint("127.0.0.1", 5000)),
    ({}, {"CUBESTORE_HTTP_PORT": "4000", "CUBESTORE_HTTP_BIND_ADDR": "127.0.0.1:5000"}, Endpoint("127.0.0.1", 5000)),
    ({"http_port": "6000"}, {"CUBESTORE_HTTP_BIND_ADDR": "127.0.0.1:5000"}, Endpoint("127.0.0.1", 6000)),
    ({"http_bind": "[::1]:auto"}, {"CUBESTORE_HTTP_PORT": "4000"}, Endpoint("::1", 0)),
    ({"http_port": "auto"}, {}, Endpoint("0.0.0.0", 0)),
    ({}, {"CUBESTORE_HTTP_PORT": "tcp://10.0.0.1:3030"}, Endpoint("0.0.0.0", 3030)),
]


@pytest.mark.parametrize(("flags", "environ", "endpoint"), LISTENERS)
def test_host_and_port_of_a_listener(flags: dict[str, str], environ: dict[str, str], endpoint: Endpoint) -> None:
    assert load(flags, None, **environ).settings.http == endpoint


def test_the_status_port_can_be_off() -> None:
    assert load(None, None, CUBESTORE_STATUS_PORT="0").settings.status is None
    assert load(None, None, CUBESTORE_STATUS_BIND_ADDR="0.0.0.0:0").settings.status is None
    assert load({"status_port": "auto"}).settings.status == Endpoint("0.0.0.0", 0)


def test_the_announced_version_can_be_none() -> None:
    assert load(None, None, CUBEQUEUE_ANNOUNCE_VERSION="None").settings.announce_version is None


# Limits that depend on others, and on memory


def test_a_default_is_lowered_to_what_another_setting_allows() -> None:
    settings = load(None, None, CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE="16MiB").settings
    assert settings.cache.max_entry_bytes == 15 * MIB
    small = load(None, None, CUBESTORE_CACHE_MAX_ENTRY_SIZE="200000").settings
    assert small.cache.proactive_size_bytes == 200_000
    assert load(None, None, CUBESTORE_CACHE_MAX_ENTRY_SIZE="10").settings.cache.proactive_size_bytes == 10


def test_an_explicit_value_that_another_setting_forbids_is_refused() -> None:
    text = refusal(None, None, CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE="16MiB", CUBESTORE_CACHE_MAX_ENTRY_SIZE="16MiB")
    assert text == (
        "CUBESTORE_CACHE_MAX_ENTRY_SIZE=16MiB: out of range, allowed are 1 bytes to 15 MiB"
        " (CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE less 1 MiB)"
    )


@pytest.mark.parametrize(
    ("memory", "cache", "queue", "answers"),
    [
        (64 * GIB, 4 * GIB, 4 * GIB, 512 * MIB),
        (1 * GIB, 218 * MIB, 218 * MIB, 872 * MIB // 5),
        (256 * MIB, 32 * MIB, 26 * MIB, 104 * MIB // 5),
        (64 * MIB, 32 * MIB, 4 * MIB, 16 * MIB // 5),
    ],
)
def test_defaults_fit_the_memory(memory: int, cache: int, queue: int, answers: int) -> None:
    settings = load_settings({}, {}, None, memory).settings
    assert (settings.cache.max_bytes, settings.queue.max_bytes, settings.answers.max_bytes) == (cache, queue, answers)


def test_explicit_sizes_are_not_scaled() -> None:
    settings = load_settings({"cache_max_size": "1GiB"}, {}, None, 64 * MIB).settings
    assert settings.cache.max_bytes == GIB


# Refusals

REFUSALS = [
    ({"CUBESTORE_CACHE_MAX_SIZE": "12MB"}, "CUBESTORE_CACHE_MAX_SIZE=12MB: out of range, allowed are 32 MiB to 16 GiB"),
    (
        {"CUBESTORE_CACHE_MAX_SIZE": "17GiB"},
        "CUBESTORE_CACHE_MAX_SIZE=17GiB: out of range, allowed are 32 MiB to 16 GiB",
    ),
    (
        {"CUBESTORE_CACHE_MAX_SIZE": "lots"},
        "CUBESTORE_CACHE_MAX_SIZE=lots: not a number with an optional unit, allowed are 32 MiB to 16 GiB",
    ),
    ({"CUBEQUEUE_CACHE_MAX_SIZE": "1"}, "CUBEQUEUE_CACHE_MAX_SIZE=1: out of range, allowed are 32 MiB to 16 GiB"),
    ({"CUBESTORE_LOG_LEVEL": "loud"}, "CUBESTORE_LOG_LEVEL=loud: not one of error, warn, info, debug, trace"),
    (
        {"CUBESTORE_HTTP_PORT": "0"},
        "CUBESTORE_HTTP_PORT=0: this listener cannot be off, allowed are 1 to 65535, auto for a free port",
    ),
    (
        {"CUBESTORE_STATUS_PORT": "99999"},
        "CUBESTORE_STATUS_PORT=99999: allowed are 1 to 65535, auto for a free port, 0 for off",
    ),
    (
        {"CUBESTORE_QUEUE_RESULTS_EXPIRE": "301"},
        "CUBESTORE_QUEUE_RESULTS_EXPIRE=301: out of range, allowed are 1 s to 300 s",
    ),
    ({"CUBEQUEUE_ANNOUNCE_VERSION": "new"}, "CUBEQUEUE_ANNOUNCE_VERSION=new: not a version such as 1.7.43, or none"),
    ({"CUBEQUEUE_DURABILITY": "best"}, "CUBEQUEUE_DURABILITY=best: not one of auto, memory, relaxed, strict"),
    (
        {"CUBEQUEUE_DURABILITY": "strict"},
        "CUBEQUEUE_DURABILITY=strict: it needs a data directory, CUBESTORE_DATA_DIR",
    ),
    ({"CUBEQUEUE_USER": "a:b"}, "CUBEQUEUE_USER=a:b: not a name without a colon"),
]


@pytest.mark.parametrize(("environ", "text"), REFUSALS)
def test_a_bad_value_is_one_line_with_name_value_and_range(environ: dict[str, str], text: str) -> None:
    assert refusal(None, None, **environ) == text


def test_a_bad_flag_is_named_as_a_flag() -> None:
    assert refusal({"cache_max_keys": "0"}).startswith("--cache-max-keys=0: out of range")


def test_secrets_and_control_characters_are_not_printed() -> None:
    loaded = load(None, None, CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD="hunter2", CUBEQUEUE_PASSWORT="hunter2")
    assert loaded.settings.access.password == "hunter2"
    assert "hunter2" not in repr((loaded.settings, loaded.origins, loaded.warnings, *effective_lines(loaded)))
    assert "\x1b" not in refusal(None, None, CUBESTORE_LOG_LEVEL="\x1b[31m\nx")
    assert len(refusal(None, None, CUBESTORE_LOG_LEVEL="x" * 10_000)) < 300


def test_bad_files(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    assert refusal(None, str(file)) == f"cannot read the settings file {file}: No such file or directory"
    file.write_text("cache_max_keys = [1]\n")
    assert refusal(None, str(file)) == f"cache_max_keys in {file}: a text, a number, true or false is wanted"
    file.write_text("cache_max_key = 1\n")
    assert refusal(None, str(file)) == f"cache_max_key in {file}: no such setting, did you mean cache_max_keys?"
    file.write_text("cache_max_keys = 0\n")
    assert refusal(None, str(file)).startswith(f"{file}: cache_max_keys=0: out of range")
    file.write_text("= what\n")
    assert refusal(None, str(file)).startswith(f"the settings file {file} is not valid TOML: ")
    file.write_bytes(b"\xff\xfe")
    assert refusal(None, str(file)).startswith(f"the settings file {file} is not valid TOML: ")


# Warnings


@pytest.mark.parametrize("setting", INEFFECTIVE, ids=lambda setting: setting.name)
def test_what_has_no_effect_says_so(setting: Setting) -> None:
    for variable in setting.variables:
        assert load(None, None, **{variable: "5"}).warnings == (f"{variable} has no effect: {setting.no_effect}",)


def test_the_mysql_port_can_be_off() -> None:
    assert load().settings.mysql == Endpoint("0.0.0.0", 3306)
    assert load(None, None, CUBESTORE_PORT="0").settings.mysql is None
    assert load(None, None, CUBESTORE_BIND_ADDR="127.0.0.1:0").settings.mysql is None
    assert load({"mysql_port": "auto"}).settings.mysql == Endpoint("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("environ", "warnings"),
    [
        ({"CUBESTORE_S3_BUCKET": "b"}, ("CUBESTORE_S3_BUCKET has no effect: there is no remote storage here",)),
        (
            {"CUBESTORE_CACHE_MAX_SIZ": "1"},
            ("CUBESTORE_CACHE_MAX_SIZ is not known and has no effect, did you mean CUBESTORE_CACHE_MAX_SIZE?",),
        ),
        ({"CUBEQUEUE_XYZZY": "1"}, ("CUBEQUEUE_XYZZY is not known and has no effect",)),
        ({"CUBEJS_API_SECRET": "1", "HOME": "/"}, ()),
        (
            {
                "CUBESTORE_PORT": "tcp://10.0.0.1:3030",
                "CUBESTORE_SERVICE_HOST": "10.0.0.1",
                "CUBESTORE_SERVICE_PORT": "3030",
                "CUBESTORE_SERVICE_PORT_HTTP": "3030",
                "CUBESTORE_PORT_3030_TCP": "tcp://10.0.0.1:3030",
                "CUBESTORE_PORT_3030_TCP_ADDR": "10.0.0.1",
                "CUBEQUEUE_ROUTER_PORT": "tcp://10.0.0.1:3030",
            },
            (),
        ),
    ],
)
def test_warnings_of_unknown_variables(environ: dict[str, str], warnings: tuple[str, ...]) -> None:
    assert load(None, None, **environ).warnings == warnings


# The table itself


def test_names_and_variables_are_unique() -> None:
    variables = [variable for setting in TABLE for variable in setting.variables]
    assert len(set(variables)) == len(variables)
    assert len(BY_NAME) == len(TABLE)


@pytest.mark.parametrize("setting", EFFECTIVE, ids=lambda setting: setting.name)
def test_each_default_is_in_range_and_can_be_written(setting: Setting) -> None:
    shown = setting.kind.show(setting.default)
    exact = setting.name not in {"cache_max_entry_size", "transport_max_message_size"} and "bytes" not in shown
    if exact and setting.default:
        assert setting.kind.parse(shown) == setting.default
    if setting.minimum is not None:
        assert isinstance(setting.default, int)
        assert setting.minimum <= setting.default <= (setting.maximum or setting.default)


def test_names_of_clients_are_pairs() -> None:
    names = load(CUBEQUEUE_CLIENT_NAMES="5f0c-11=api-1, 10.0.0.7 = worker 2,::1=local").settings.client_names
    assert names == {"5f0c-11": "api-1", "10.0.0.7": "worker 2", "::1": "local"}
    assert load().settings.client_names == {}
    for bad in ("api-1", "=x", "a=", "a=b,,c=d", "a=b=c"):
        assert "CUBEQUEUE_CLIENT_NAMES" in refusal(CUBEQUEUE_CLIENT_NAMES=bad)
