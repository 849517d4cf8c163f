"""Users and TLS certificate as the settings have them, read from their files at the start and on SIGHUP."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.access.passwords import MAX_FILE_BYTES, Secret, Users, UsersError, parse_users
from cubequeue_server.settings.resolve import AccessSettings

_log = logging.getLogger(__name__)


class AccessError(Exception):
    """Unusable settings or files; the text names them, without any secret."""


class TlsError(AccessError):
    """Files without a usable certificate; the text names the file and the reason, without their content."""


class Access:
    """What all listeners share: `credentials`, and the context `tls`, which is None without encryption.

    Raises AccessError when the settings contradict each other or name unusable files.
    """

    def __init__(self, settings: AccessSettings) -> None:
        _check(settings)
        self._settings = settings
        self.credentials = Credentials(_read_users(settings))
        try:
            self._certificate = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        except TlsError as error:
            raise AccessError(f"CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: {error}") from error

    @property
    def tls(self) -> ssl.SSLContext | None:
        return None if self._certificate is None else self._certificate.context

    @property
    def has_files(self) -> bool:
        """Whether there are files to read again."""
        settings = self._settings
        return bool(settings.password_file or settings.users_file or settings.tls_cert)

    def reload(self) -> None:
        """Read the files again. Unusable files are logged as errors, and the old content stays in use."""
        try:
            self.credentials.replace(_read_users(self._settings))
            _log.info("users were read again")
        except AccessError as error:
            _log.error("the users stay as they were: %s", error)  # the trace tells nothing more
        if self._certificate is None:
            return
        try:
            self._certificate.reload()
            _log.info("the certificate was read again")
        except TlsError as error:
            _log.error("the certificate stays as it was: %s", error)


class Tls:
    """A certificate with its key, for TLS 1.2 and newer.

    `context` is for `create_server` and the like. `reload` changes the certificate of later handshakes, but only if
    the new files are usable. Raises TlsError.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = certificate
        self._key = key
        self._current = _load(certificate, key)
        self.context = _load(certificate, key)
        # Called in each handshake, also for clients that name no server.
        self.context.sni_callback = self._use_current

    def reload(self) -> None:
        """Read the files again. Raises TlsError; the old ones stay in use then."""
        self._current = _load(self._certificate, self._key)

    def _use_current(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: object) -> None:
        connection.context = self._current


def _check(settings: AccessSettings) -> None:
    has_password = bool(settings.password or settings.password_file)
    if settings.password and settings.password_file:
        raise AccessError("CUBEQUEUE_PASSWORD and CUBEQUEUE_PASSWORD_FILE are both set: one of them is enough")
    if has_password != bool(settings.user):
        text = "CUBEQUEUE_PASSWORD needs CUBEQUEUE_USER" if has_password else "CUBEQUEUE_USER needs CUBEQUEUE_PASSWORD"
        raise AccessError(f"{text} (or its _FILE): a client names both")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise AccessError("CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: one is set and the other is not")


def _read_users(settings: AccessSettings) -> Users | None:
    """All users; None when the settings name none."""
    users: dict[bytes, Secret] = {}
    if settings.users_file:
        try:
            users = parse_users(_read(settings.users_file, "CUBEQUEUE_USERS_FILE"))
        except UsersError as error:
            raise AccessError(f"CUBEQUEUE_USERS_FILE={settings.users_file}: {error}") from None
    if settings.user:
        user = _encode(settings.user)
        if user in users:
            raise AccessError("the user of CUBEQUEUE_USER stands in CUBEQUEUE_USERS_FILE too")
        users[user] = _password(settings)
    return users or None


def _password(settings: AccessSettings) -> bytes:
    if not settings.password_file:
        return _encode(settings.password)
    password = _read(settings.password_file, "CUBEQUEUE_PASSWORD_FILE").removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise AccessError(f"CUBEQUEUE_PASSWORD_FILE={settings.password_file}: it is empty")
    return password


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # the bytes of the environment


def _read(path: str, variable: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise AccessError(f"{variable}={path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise AccessError(f"{variable}={path}: more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _load(certificate: str, key: str) -> ssl.SSLContext:
    for path in (certificate, key):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise TlsError(f"cannot read {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # Without `password`, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = (error.reason or "no certificate and key in PEM form").replace("_", " ").lower()
        raise TlsError(f"cannot use {certificate} with {key}: {reason}") from None
    return context
