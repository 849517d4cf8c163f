"""The settings of one start: flag over environment over TOML file over default, checked, typed and frozen.

`load_settings` is the only way to get them; it raises `SettingsError`, whose text is the one line that the start ends
with (exit code 2). Nothing here reads more than it is given: the environment and the flags are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubequeue_server.settings.store_address import StoreAddress, parse_address
from cubequeue_server.settings.table import (
    BY_NAME,
    CLIENT_VARIABLES,
    CONFIG_VARIABLE,
    FAMILIES_WITHOUT_EFFECT,
    PROCESS_BYTES,
    TABLE,
    UPSTREAM,
    Setting,
)
from cubequeue_server.settings.upstream import UpstreamSettings, upstream_settings
from cubequeue_server.settings.values import (
    PORT_AUTO,
    PORT_OFF,
    Endpoint,
    UpstreamAddress,
    UpstreamUrl,
    without_credentials,
)
from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy, HistoryLimits, QueueLimits


class SettingsError(Exception):
    """A setting that cannot be used; the text names it as the user gave it, its value and what is allowed."""


@dataclass(slots=True, frozen=True)
class AccessSettings:
    """Who may connect, and inside of what; an empty text is what was not given."""

    user: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    users_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()

    @property
    def demands_credentials(self) -> bool:
        return bool(self.user or self.users_file)


@dataclass(slots=True, frozen=True)
class StatsdTarget:
    """Where metrics are sent: from `bind_host` if it is not empty. Tags are only sent in the format of DogStatsD."""

    endpoint: Endpoint
    bind_host: str
    with_tags: bool


@dataclass(slots=True, frozen=True)
class StoreSettings:
    """The store that servers share; an empty text is what was not given."""

    address: StoreAddress
    user: str
    password_file: str
    sentinel_password_file: str
    tls_ca: str
    name: str
    shards: int
    durability: str  # relaxed or replicated
    replicas: int
    timeout_ms: int
    late_ms: int


@dataclass(slots=True, frozen=True)
class Settings:
    """Everything that can be set, under the names of the table (settings_table.py).

    Durations are in milliseconds and sizes in bytes; `http`, `status` and `mysql` are where to
    listen, None for off.
    """

    http: Endpoint
    status: Endpoint | None
    mysql: Endpoint | None
    query_timeout_ms: int
    select_max_bytes: int
    announce_version: str | None
    access: AccessSettings
    max_connections: int
    max_connections_per_user: int
    join_in_flight_ms: int
    transport_max_message_size: int
    transport_max_frame_size: int
    unfinished_max_bytes: int
    unread_max_bytes: int
    log_level: str
    log_format: str
    slow_statement_ms: int
    status_cancel: bool
    statsd: StatsdTarget | None
    data_dir: str
    durability: str  # memory, relaxed or strict
    cache_durability: str  # memory, or auto for the same
    upstream: UpstreamSettings | None
    client_names: Mapping[str, str]  # by process id or address
    client_dns: bool
    store: StoreSettings | None
    queue: QueueLimits
    cache: CacheLimits
    answers: AnswerLimits


@dataclass(slots=True, frozen=True)
class Origin:
    """Where a value came from: `rank` orders flag (0), environment (1), file (2) and default (3)."""

    rank: int
    label: str
    text: str = field(repr=False)  # it may be a secret
    holds_credentials: bool = False

    @property
    def explicit(self) -> bool:
        return self.rank < _DEFAULT_RANK

    def complain(self, reason: str) -> SettingsError:
        text = without_credentials(self.text) if self.holds_credentials else self.text
        return SettingsError(f"{self.label}={_printable(text)}: {reason}")


@dataclass(slots=True, frozen=True)
class Loaded:
    """The settings with their history: `values` and `origins` by the names of the table, and what to warn of."""

    settings: Settings
    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...]


_FLAG_RANK, _ENVIRONMENT_RANK, _FILE_RANK, _DEFAULT_RANK = range(4)
_DEFAULT = Origin(_DEFAULT_RANK, "default", "")


def load_settings(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    config_path: str | None = None,
    memory_bytes: int | None = None,
) -> Loaded:
    """Work the settings out.

    `flags` holds the texts of the given flags by setting name; `config_path` is that of `--config`. `memory_bytes`
    is what this process may use: the defaults of what may grow large are scaled down to it. Raises SettingsError.
    """
    file = _read_file(config_path or environ.get(CONFIG_VARIABLE) or None)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for setting in TABLE:
        origin = _find(setting, flags, environ, file)
        origins[setting.name] = origin
        values[setting.name] = _parse(setting, origin) if origin.explicit else _default(setting, memory_bytes)
    for setting in TABLE:
        values[setting.name] = _within_range(setting, values, origins)
    warnings = (*_ineffective(values, origins), *_unknown_variables(environ))
    return Loaded(_assemble(values, origins), values, origins, warnings)


def _read_file(path: str | None) -> Mapping[str, Origin]:
    """The file's values by setting name."""
    if path is None:
        return {}
    import tomllib  # noqa: PLC0415  # a start without a file need not pay for it

    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error
    return {key: _file_origin(path, key, value) for key, value in content.items()}


def _file_origin(path: str, key: str, value: object) -> Origin:
    if key not in BY_NAME:
        raise SettingsError(f"{key} in {path}: no such setting{_did_you_mean(key, BY_NAME)}")
    if not isinstance(value, str | int | float):
        raise SettingsError(f"{key} in {path}: a text, a number, true or false is wanted")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return Origin(_FILE_RANK, f"{path}: {key}", text, isinstance(BY_NAME[key].kind, UpstreamUrl))


def _find(setting: Setting, flags: Mapping[str, str], environ: Mapping[str, str], file: Mapping[str, Origin]) -> Origin:
    is_url = isinstance(setting.kind, UpstreamUrl)
    if setting.name in flags:
        return Origin(_FLAG_RANK, setting.flag, flags[setting.name], is_url)
    for variable in setting.variables:
        text = environ.get(variable, "")
        if not setting.is_secret:
            text = text.strip()
        # An empty variable is how composed environments say "not set".
        if text and not _is_service_link(variable, text):
            return Origin(_ENVIRONMENT_RANK, variable, text, is_url)
    return file.get(setting.name, _DEFAULT)


def _parse(setting: Setting, origin: Origin) -> Any:  # the type is the kind's
    try:
        value = setting.kind.parse(origin.text)
        if origin.rank == _FLAG_RANK and isinstance(value, UpstreamAddress) and (value.user or value.password):
            raise ValueError(
                f"everyone can read command lines: set {setting.own_variable}, or a user and _PASSWORD_FILE"
            )
        return value
    except ValueError as error:
        reason = str(error)
        bounds = _bounds_text(setting, setting.maximum)
        raise origin.complain(f"{reason}, {bounds}" if bounds else reason) from error


def _default(setting: Setting, memory_bytes: int | None) -> Any:
    if setting.memory_percent is None or memory_bytes is None:
        return setting.default
    assert isinstance(setting.default, int)
    room_bytes = max(memory_bytes - PROCESS_BYTES, memory_bytes // 4)
    return max(setting.minimum or 0, min(setting.default, room_bytes * setting.memory_percent // 100))


def _within_range(setting: Setting, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Any:
    """The value, a default lowered to what another setting allows; refused if it was given and is out of range."""
    value = values[setting.name]
    maximum, because = setting.maximum, ""
    if setting.ceiling is not None:
        maximum = values[setting.ceiling.setting] - setting.ceiling.less
        because = f" ({_ceiling_text(setting, origins)})"
    if not origins[setting.name].explicit:
        return value if maximum is None else min(value, maximum)
    too_small = setting.minimum is not None and value < setting.minimum
    if too_small or (maximum is not None and value > maximum):
        raise origins[setting.name].complain(f"out of range, {_bounds_text(setting, maximum)}{because}")
    return value


def _bounds_text(setting: Setting, maximum: int | None) -> str:
    show = setting.kind.show
    if setting.minimum is not None and maximum is not None:
        return f"allowed are {show(setting.minimum)} to {show(maximum)}"
    return f"at least {show(setting.minimum)}" if setting.minimum is not None else ""


def _ceiling_text(setting: Setting, origins: Mapping[str, Origin]) -> str:
    assert setting.ceiling is not None
    other = BY_NAME[setting.ceiling.setting]
    label = origins[other.name].label if origins[other.name].explicit else other.main_variable
    return f"{label} less {other.kind.show(setting.ceiling.less)}" if setting.ceiling.less else label


def _assemble(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Settings:
    http = _endpoint("http", values, origins)
    assert http is not None  # its port cannot be off
    version: str = values["announce_version"]
    return Settings(
        http=http,
        status=_endpoint("status", values, origins),
        mysql=_endpoint("mysql", values, origins),
        query_timeout_ms=values["query_timeout"],
        select_max_bytes=values["select_max_memory"],
        announce_version=None if version.lower() == "none" else version,
        access=AccessSettings(**{each: values[each] for each in AccessSettings.__slots__}),
        max_connections=values["max_connections"],
        max_connections_per_user=values["max_connections_per_user"],
        join_in_flight_ms=values["join_in_flight"],
        transport_max_message_size=values["transport_max_message_size"],
        transport_max_frame_size=values["transport_max_frame_size"],
        unfinished_max_bytes=values["unfinished_max_size"],
        unread_max_bytes=values["unread_max_size"],
        log_level=values["log_level"],
        log_format=values["log_format"],
        slow_statement_ms=values["slow_statement"],
        status_cancel=values["status_cancel"],
        statsd=_statsd(values, origins),
        data_dir=values["data_dir"],
        store=_store(values, origins),
        durability=_durability(values, origins),
        cache_durability=values["cache_durability"],
        upstream=upstream_settings(values),
        client_names=_names(values["client_names"]),
        client_dns=values["client_dns"],
        queue=QueueLimits(
            max_items=values["queue_max_items"],
            max_bytes=values["queue_max_size"],
            max_waiters=values["queue_max_waiters"],
            results_expire_ms=values["queue_results_expire"],
            restart_grace_ms=values["restart_grace"],
            history=HistoryLimits(
                max_items=values["history_max_items"],
                max_bytes=values["history_max_size"],
                keep_ms=values["history_keep"],
            ),
        ),
        cache=CacheLimits(
            max_keys=values["cache_max_keys"],
            max_bytes=values["cache_max_size"],
            max_entry_bytes=values["cache_max_entry_size"],
            policy=EvictionPolicy(values["cache_policy"]),
            eviction_interval_ms=values["cache_eviction_loop"],
            proactive_size_bytes=values["cache_eviction_proactive_size_threshold"],
            proactive_ttl_ms=values["cache_eviction_proactive_ttl_threshold"],
            lfu_log_factor=values["cache_lfu_log_factor"],
            lfu_decay_ms=values["cache_lfu_decay_time"],
            keep=values["cache_keep"],
            drop_guard_ms=values["drop_guard"],
        ),
        answers=AnswerLimits(
            max_bytes=values["answers_max_size"],
            keep_ms=values["answers_keep"],
            keep_undelivered_ms=values["answers_keep_undelivered"],
        ),
    )


def _names(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    return {id_.strip(): name.strip() for id_, _, name in pairs}


def _durability(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> str:
    mode: str = values["durability"]
    if mode == "auto":
        return "relaxed" if values["data_dir"] else "memory"
    if mode != "memory" and not values["data_dir"]:
        raise origins["durability"].complain("it needs a data directory, CUBESTORE_DATA_DIR")
    return mode


def _store(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> StoreSettings | None:
    if not values["store"]:
        return None
    for name in ("data_dir", "durability", "cache_durability"):
        if origins[name].explicit and values[name]:
            raise origins[name].complain(f"the state is in the store that {origins['store'].label} names")
    if values["store_late"] >= values["store_timeout"]:
        raise origins["store_late"].complain("it must be below CUBEQUEUE_STORE_TIMEOUT")
    try:
        address = parse_address(values["store"])
    except ValueError as error:
        raise SettingsError(f"{origins['store'].label}: {error}") from None  # its text may hold a password
    own = {each: values[f"store_{each}"] for each in ("user", "password_file", "sentinel_password_file", "tls_ca")}
    return StoreSettings(
        address,
        **own,
        name=values["store_name"],
        shards=values["store_shards"],
        durability=values["store_durability"],
        replicas=values["store_replicas"],
        timeout_ms=values["store_timeout"],
        late_ms=values["store_late"],
    )


def _endpoint(listener: str, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Endpoint | None:
    """Host and port of a listener from its address and its port setting; None when it is off.

    The host is the address's. The port is the one given at the higher rank; at the same rank the address wins, as
    it does upstream.
    """
    bind: Endpoint = values[f"{listener}_bind"]
    port_wins = origins[f"{listener}_port"].rank < origins[f"{listener}_bind"].rank
    port: int = values[f"{listener}_port"] if port_wins else bind.port
    if port == PORT_OFF:
        return None
    return Endpoint(bind.host, 0 if port == PORT_AUTO else port)


def _statsd(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> StatsdTarget | None:
    """Where metrics are sent; nowhere unless something was said about it."""
    names = ("metrics_format", "metrics_address", "metrics_port", "metrics_bind_address")
    if not any(origins[name].explicit for name in names):
        return None
    endpoint = Endpoint(values["metrics_address"], values["metrics_port"])
    bind_host = "" if values["metrics_bind_address"] == "any" else values["metrics_bind_address"]
    return StatsdTarget(endpoint, bind_host, values["metrics_format"] == "dogstatsd")


def _ineffective(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Iterator[str]:
    for setting in TABLE:
        origin = origins[setting.name]
        if setting.no_effect is not None and origin.explicit and not _is_off(values[setting.name]):
            yield f"{origin.label} has no effect: {setting.no_effect}"
        if setting.name in _NEED_UPSTREAM and origin.explicit and values["upstream"] is None:
            yield f"{origin.label} has no effect: CUBEQUEUE_UPSTREAM is not set"
        if setting.name in _NOT_SHARED and origin.explicit and values["store"] and not _is_off(values[setting.name]):
            yield f"{origin.label} has no effect with a shared store"


_NOT_SHARED = frozenset({"cache_keep", "drop_guard"})
_NEED_UPSTREAM = frozenset(setting.name for setting in UPSTREAM if setting.name != "upstream")


def _is_off(value: object) -> bool:
    return value == PORT_OFF or (isinstance(value, Endpoint) and value.port == PORT_OFF)


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {variable for setting in TABLE for variable in setting.variables} | {CONFIG_VARIABLE, *CLIENT_VARIABLES}
    for variable in sorted(environ):
        if not variable.startswith(("CUBESTORE_", "CUBEQUEUE_")) or variable in known:
            continue
        family = next((why for prefix, why in FAMILIES_WITHOUT_EFFECT.items() if variable.startswith(prefix)), None)
        if family is not None:
            yield f"{variable} has no effect: {family}"
        elif not _is_service_link(variable, environ[variable]):
            yield f"{_printable(variable)} is not known and has no effect{_did_you_mean(variable, known)}"


_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")


def _is_service_link(variable: str, text: str) -> bool:
    """Whether Kubernetes put the variable there, as it does for a Service that is called `cubestore` or alike."""
    return _SERVICE_LINK.search(variable) is not None or text.startswith(("tcp://", "udp://", "sctp://"))


def _did_you_mean(word: str, known: Mapping[str, Any] | set[str]) -> str:
    import difflib  # noqa: PLC0415  # wanted for mistakes only

    # What all names begin with makes none of them more alike.
    shorter = {name.removeprefix("CUBESTORE_").removeprefix("CUBEQUEUE_"): name for name in sorted(known)}
    near = difflib.get_close_matches(word.removeprefix("CUBESTORE_").removeprefix("CUBEQUEUE_"), shorter, 1, 0.75)
    return f", did you mean {shorter[near[0]]}?" if near else ""


def _printable(text: str) -> str:
    """A text as one line of bounded length."""
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return line if len(line) <= 100 else line[:100] + "…"
