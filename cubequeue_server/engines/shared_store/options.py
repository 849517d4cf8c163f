"""How a store is used: what may be set beside its address, and what is read from files for that."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cubequeue_server.engines.shared_store.errors import CannotUseError
from cubequeue_server.settings.resolve import StoreSettings
from cubequeue_server.settings.store_address import StoreAddress


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


def store_options(settings: StoreSettings) -> StoreOptions:
    """The settings as they are used. Raises CannotUseError when a file cannot be read."""
    options = StoreOptions(
        settings.address,
        name=settings.name,
        shards=settings.shards,
        replicas=settings.replicas if settings.durability == "replicated" else 0,
        timeout_s=settings.timeout_ms / 1000,
        late_s=settings.late_ms / 1000,
        user=settings.user,
        password=_password_of(settings.password_file),
        sentinel_password=_password_of(settings.sentinel_password_file),
        tls=_tls(settings.tls_ca) if settings.address.has_tls else None,
    )
    options.password()
    options.sentinel_password()
    return options


def _password_of(path: str) -> Callable[[], str]:
    """What reads a password: a file may be replaced while the server runs."""
    return partial(_read_password, path) if path else str


def _read_password(path: str) -> str:
    try:
        password = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CannotUseError(f"cannot read the password of the store in {path}: {reason}") from None
    if not password:
        raise CannotUseError(f"{path}, the password of the store, is empty")
    return password


def _tls(ca_path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except (OSError, ssl.SSLError) as error:
        raise CannotUseError(f"CUBEQUEUE_STORE_TLS_CA={ca_path}: {error.strerror or 'no certificates in it'}") from None
