"""Coroutine tests run on the loop that the server runs on, each within a time that a hang cannot exceed.

A folder with such tests imports the hook in its conftest.py.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest
import uvloop

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
