"""Who may connect, and inside of what: credentials and TLS as the settings have them, read again on SIGHUP."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.access.passwords import MAX_FILE_BYTES, Secret, Users, UsersError, parse_users
from cubequeue_server.net.tls import Tls, TlsError
from cubequeue_server.settings.resolve import AccessSettings

_log = logging.getLogger(__name__)


class AccessError(Exception):
    """Settings or files that cannot be used; the text names them, and never what is secret."""


class Access:
    """What the listeners share: `credentials`, and the context `tls`, None where nothing is encrypted.

    Raises AccessError when the settings contradict each other or name files that cannot be used.
    """

    def __init__(self, settings: AccessSettings) -> None:
        _check(settings)
        self._settings = settings
        self.credentials = Credentials(_read_users(settings))
        self._certificate = _read_certificate(settings)

    @property
    def tls(self) -> ssl.SSLContext | None:
        return None if self._certificate is None else self._certificate.context

    @property
    def has_files(self) -> bool:
        """Whether there is anything to read again."""
        settings = self._settings
        return bool(settings.password_file or settings.users_file or settings.tls_cert)

    def reload(self) -> None:
        """Read the files again. What cannot be used is an error in the log, and the old stays."""
        try:
            self.credentials.replace(_read_users(self._settings))
        except AccessError as error:
            _log.error("the users stay as they were: %s", error)  # the trace tells nothing more
        else:
            _log.info("users were read again")
        if self._certificate is None:
            return
        try:
            self._certificate.reload()
        except TlsError as error:
            _log.error("the certificate stays as it was: %s", error)
        else:
            _log.info("the certificate was read again")


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
    """All users; None when none is wanted."""
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
    return text.encode(errors="surrogateescape")  # as the environment had it


def _read(path: str, variable: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise AccessError(f"{variable}={path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise AccessError(f"{variable}={path}: more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _read_certificate(settings: AccessSettings) -> Tls | None:
    if not settings.tls_cert:
        return None
    try:
        return Tls(settings.tls_cert, settings.tls_key)
    except TlsError as error:
        raise AccessError(f"CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: {error}") from error
