"""Coroutine tests, and TLS."""

from __future__ import annotations

import ssl

import pytest

from cubequeue_server.access.reloading import Tls
from tests.certificates import Certificate
from tests.coroutines import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture
def context(certificate: Certificate) -> ssl.SSLContext:
    """The server's side."""
    return Tls(*map(str, certificate)).context


@pytest.fixture
def trusting(certificate: Certificate) -> ssl.SSLContext:
    """The side of a client that trusts it."""
    return certificate.client_context()
