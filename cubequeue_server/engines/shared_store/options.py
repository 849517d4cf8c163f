"""Where a store is and how it is used: the address of CUBEQUEUE_STORE, read; and what else may be set."""

from __future__ import annotations

import enum
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from cubequeue_server.engines.shared_store.connection import Address

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_PRODUCTS: Final = ("valkey", "redis")
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
    product = scheme.removesuffix("s") if scheme.endswith("s") else scheme
    if product not in _PRODUCTS or how not in {kind.value for kind in Kind} or not parts.netloc:
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
        scheme.endswith("s"),
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


@dataclass(slots=True, frozen=True)
class StoreOptions:
    """How the store is used.

    `password` and `sentinel_password` are read anew for each connection. With `replicas` an answer leaves when so
    many replicas have what it has seen; with 0 at once. A reply that took longer than `late_s` is not believed before
    the primary has been confirmed; nothing waits longer than `timeout_s`.
    """

    address: StoreAddress
    name: str = "cq"
    shards: int = 64
    replicas: int = 0
    timeout_s: float = 30.0
    late_s: float = 0.5
    user: str = ""
    password: Callable[[], str] = str
    sentinel_password: Callable[[], str] = str
    tls: ssl.SSLContext | None = None
    max_waiting: int = 100_000
    max_waiting_bytes: int = 256 << 20
