"""Coroutine tests run on the loop that the server runs on, each within a time that a hang cannot exceed; and TLS."""

from __future__ import annotations

import asyncio
import inspect
import ssl

import pytest
import uvloop

from cubequeue_server.access.reloading import Tls
from tests.certificates import Certificate

_TIMEOUT_S = 30


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            await function(**arguments)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
    return True


@pytest.fixture
def context(certificate: Certificate) -> ssl.SSLContext:
    """The server's side."""
    return Tls(*map(str, certificate)).context


@pytest.fixture
def trusting(certificate: Certificate) -> ssl.SSLContext:
    """The side of a client that trusts it."""
    return certificate.client_context()
