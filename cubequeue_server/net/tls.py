"""TLS for the listeners, from PEM files that can be read again while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsError(Exception):
    """Files that make no certificate; the text names the file and the reason, and nothing of what stands there."""


class Tls:
    """A certificate with its key, for TLS 1.2 and newer.

    `context` is for `create_server` and its like. `reload` changes what later handshakes use, at once or not at all:
    the new files are tried first, apart from what is in use. Raises TlsError.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = certificate
        self._key = key
        self._current = _load(certificate, key)
        self.context = _load(certificate, key)
        # Asked in each handshake, also by clients that name no server.
        self.context.sni_callback = self._use_current

    def reload(self) -> None:
        """Read the files again. Raises TlsError, and goes on with the old ones then."""
        self._current = _load(self._certificate, self._key)

    def _use_current(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: object) -> None:
        connection.context = self._current


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
        # Without `password` an encrypted key would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = (error.reason or "no certificate and key in PEM form").replace("_", " ").lower()
        raise TlsError(f"cannot use {certificate} with {key}: {reason}") from None
    return context
