"""Where a shared store is: what CUBEQUEUE_STORE says, read."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

Address: TypeAlias = tuple[str, int]
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_HAS_TLS: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
_EXAMPLE: Final = (
    "valkey://host:6379, valkeys:// for TLS, valkey+sentinel://host,host/name or valkey+cluster://host,host"
)


class Kind(enum.Enum):
    """How the primary of a shard is found."""

    SINGLE = ""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(slots=True, frozen=True)
class StoreAddress:
    """A CUBEQUEUE_STORE. `master_name` is that of Sentinel, `database` a number of a single node."""

    kind: Kind
    hosts: tuple[Address, ...]
    has_tls: bool
    master_name: str = ""
    database: int = 0

    def __str__(self) -> str:
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)


def parse_address(text: str) -> StoreAddress:
    """Read the address. Raises ValueError with what is wrong; a password is not repeated."""
    parts = urlsplit(text)
    scheme, _, how = parts.scheme.partition("+")
    if scheme not in _HAS_TLS or how not in {kind.value for kind in Kind} or not parts.netloc:
        raise ValueError(f"an address is wanted such as {_EXAMPLE}")
    if "@" in parts.netloc:
        raise ValueError("no credentials belong here: set CUBEQUEUE_STORE_USER and CUBEQUEUE_STORE_PASSWORD_FILE")
    kind = Kind(how)
    default_port = SENTINEL_PORT if kind is Kind.SENTINEL else DEFAULT_PORT
    hosts = tuple(_host(each, default_port) for each in parts.netloc.split(","))
    path = unquote(parts.path.strip("/"))
    if kind is Kind.SINGLE and len(hosts) > 1:
        raise ValueError("one host is wanted; for several there are valkey+sentinel:// and valkey+cluster://")
    if kind is Kind.SENTINEL and not path:
        raise ValueError(
            "the name that the sentinels have for the primary is missing: valkey+sentinel://host,host/name"
        )
    if kind is not Kind.SENTINEL and path and (not path.isdecimal() or kind is Kind.CLUSTER):
        raise ValueError("what follows the host is no number of a database")
    return StoreAddress(
        kind,
        hosts,
        _HAS_TLS[scheme],
        path if kind is Kind.SENTINEL else "",
        int(path) if kind is Kind.SINGLE and path else 0,
    )


def _host(text: str, default_port: int) -> Address:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, port or default_port
