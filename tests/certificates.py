"""Certificates for tests, made by the openssl command when they are wanted: no key is kept anywhere."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.needed import require_program


class Certificate(NamedTuple):
    """PEM files of a self-signed certificate for 127.0.0.1 and localhost."""

    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(folder: Path, name: str = "server", *options: str) -> Certificate:
    """A new certificate; the test skips where there is no openssl, and fails where CI=true."""
    require_program("openssl")
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         *(options or ["-nodes"]), "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return made
