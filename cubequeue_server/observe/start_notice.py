"""The notice for a person at a terminal after a start: where the page is, what is kept, who can connect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cubequeue_server.settings.resolve import Settings
from cubequeue_server.settings.values import Endpoint

_ALL: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # compared with, not bound to
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_USER_VARIABLES: Final = "CUBEQUEUE_USER and CUBEQUEUE_PASSWORD"
_WIDTH: Final = 10


def notice_lines(settings: Settings, listeners: Mapping[str, Endpoint]) -> Iterator[str]:
    """The notice, one fact a line. `listeners` are the addresses in use: of `ws`, and of `status` and `mysql` if on."""
    for subject, fact in _facts(settings, listeners):
        yield f"  {subject:<{_WIDTH}}{fact}"


def _facts(settings: Settings, listeners: Mapping[str, Endpoint]) -> Iterator[tuple[str, str]]:
    scheme = "https" if settings.access.tls_cert else "http"
    if "status" in listeners:
        yield "page", f"{scheme}://{_reachable(listeners['status'])}/"
    ws = _reachable(listeners["ws"])
    yield "for Cube", f"CUBEJS_CUBESTORE_HOST={ws.host} CUBEJS_CUBESTORE_PORT={ws.port}"
    yield "state", _state(settings)
    if settings.access.demands_credentials:
        yield "users", "each client has to name one, with its password"
    else:
        yield "users", f"none: anyone who can reach these ports can use them ({_USER_VARIABLES} set one)"
    yield "reach", _reach(listeners)
    yield "stop", "Ctrl-C"


def _reachable(endpoint: Endpoint) -> Endpoint:
    """The address for a client on this machine."""
    return Endpoint("localhost", endpoint.port) if endpoint.host in _ALL | _LOOPBACK else endpoint


def _state(settings: Settings) -> str:
    if settings.store is not None:
        return f"in the store at {settings.store.address}, shared, durability {settings.store.durability}"
    if settings.durability == "memory":
        return "in memory: a restart empties queue and cache (CUBESTORE_DATA_DIR keeps them)"
    return f"kept in {settings.data_dir}, durability {settings.durability}"


def _reach(listeners: Mapping[str, Endpoint]) -> str:
    """Who can open a connection, judged by the addresses."""
    open_to_all = [name for name, endpoint in listeners.items() if endpoint.host in _ALL]
    if open_to_all:
        verb = "listens" if len(open_to_all) == 1 else "listen"
        return f"{_listed(open_to_all)} {verb} on all addresses of this machine (CUBESTORE_HTTP_BIND_ADDR and others)"
    if all(endpoint.host in _LOOPBACK for endpoint in listeners.values()):
        return "this machine only"
    return ", ".join(f"{name} on {endpoint.host}" for name, endpoint in listeners.items())


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
