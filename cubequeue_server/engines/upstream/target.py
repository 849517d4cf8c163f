"""The CubeStore behind: where it is, what it is told about who asks, and how far what waits for it may grow."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cubequeue_server.settings.upstream import TargetError, UpstreamSettings
from cubequeue_server.settings.values import Endpoint, UpstreamAddress

_MAX_FILE_BYTES: Final = 1024 * 1024
# Older versions get statements in the legacy format: arrowFormat is a capability since then (clients.md §1).
ARROW_SINCE: Final = (1, 6, 66)


@dataclass(slots=True, frozen=True)
class Target:
    """A CubeStore. `authorization` is the value of the header, None where there are no credentials.

    With `forwards_credentials` a client's own header is sent where there is no other.
    """

    address: UpstreamAddress
    authorization: bytes | None = field(default=None, repr=False)
    forwards_credentials: bool = False
    tls: ssl.SSLContext | None = None
    timeout_s: float = 60.0
    max_waiting: int = 10_000
    max_waiting_bytes: int = 256 << 20
    reply_max_bytes: int = 100 << 20
    is_required: bool = False
    upload_idle_timeout_s: float = 60.0
    max_uploads: int = 100

    connect_timeout_s: float = 10.0
    ping_interval_s: float = 5.0
    silence_timeout_s: float = 30.0
    settle_s: float = 0.1  # after a loss, until all that was lost with it is known
    backoff_s: float = 0.25  # between attempts to connect, at first
    max_backoff_s: float = 1.0
    probe_interval_s: float = 5.0  # while nobody waits for a connection

    def __str__(self) -> str:
        return str(self.address)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address.host, self.address.port)

    def headers(self, process_id: bytes | None, authorization: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """The headers that a client's connection adds: who it is, and credentials."""
        if process_id is not None:
            yield b"x-process-id", process_id
        value = self.authorization
        if value is None and self.forwards_credentials:
            value = authorization
        if value is not None:
            yield b"Authorization", value


def make_target(settings: UpstreamSettings, *, has_own_users: bool) -> Target:
    """Read the files that the settings name. Raises TargetError."""
    return Target(
        settings.address,
        _authorization(settings),
        not has_own_users,
        _tls(settings),
        timeout_s=settings.timeout_ms / 1000,
        max_waiting=settings.max_waiting,
        max_waiting_bytes=settings.max_waiting_bytes,
        reply_max_bytes=settings.reply_max_bytes,
        is_required=settings.is_required,
        upload_idle_timeout_s=settings.upload_idle_timeout_ms / 1000,
        max_uploads=settings.max_uploads,
    )


def warnings_of(target: Target) -> Iterator[str]:
    """What a start has to say aloud."""
    address = target.address
    if not address.is_tls and target.authorization is not None and not _is_loopback(address.host):
        yield f"credentials travel to {address} in the clear: wss:// encrypts them"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def version_of(text: bytes | None) -> tuple[int, ...]:
    """The numbers of a version that a CubeStore announces; none where it announces none, or nothing that is one.

    A pre-release ranks below its release (clients.md §1).
    """
    release, dash, _ = (text or b"").partition(b"-")
    parts = release.split(b".")
    if not all(part.isdigit() and len(part) < 10 for part in parts):
        return ()
    numbers = tuple(map(int, parts))
    return (*numbers[:-1], numbers[-1] - 1, 1 << 30) if dash else numbers


def _authorization(settings: UpstreamSettings) -> bytes | None:
    address = settings.address
    in_url, apart = address.user or address.password, settings.user or settings.password_file
    if in_url and apart:
        raise TargetError("CUBEQUEUE_UPSTREAM names credentials, and CUBEQUEUE_UPSTREAM_USER or _PASSWORD_FILE too")
    if bool(settings.user) != bool(settings.password_file):
        raise TargetError("CUBEQUEUE_UPSTREAM_USER and CUBEQUEUE_UPSTREAM_PASSWORD_FILE: one is set, the other is not")
    if in_url:
        return _basic(address.user.encode(errors="surrogateescape"), address.password.encode(errors="surrogateescape"))
    if not settings.user:
        return None
    password = _read(settings.password_file, "CUBEQUEUE_UPSTREAM_PASSWORD_FILE")
    return _basic(settings.user.encode(errors="surrogateescape"), password.removesuffix(b"\n").removesuffix(b"\r"))


def _basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + b64encode(user + b":" + password)


def _read(path: str, variable: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TargetError(f"{variable}={path}: cannot be read: {error.strerror}") from error
    if not content or len(content) > _MAX_FILE_BYTES:
        raise TargetError(f"{variable}={path}: it is {'too large' if content else 'empty'}")
    return content


def _tls(settings: UpstreamSettings) -> ssl.SSLContext | None:
    if not settings.address.is_tls:
        if settings.tls_ca:
            raise TargetError("CUBEQUEUE_UPSTREAM_TLS_CA is set, and CUBEQUEUE_UPSTREAM is not wss://")
        return None
    if not settings.tls_ca:
        return ssl.create_default_context()
    authorities = _read(settings.tls_ca, "CUBEQUEUE_UPSTREAM_TLS_CA")
    try:
        return ssl.create_default_context(cadata=authorities.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise TargetError(f"CUBEQUEUE_UPSTREAM_TLS_CA={settings.tls_ca}: no certificates in PEM form") from None
