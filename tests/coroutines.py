"""Coroutine tests run on the loop that the server runs on, each within a time that a hang cannot exceed.

A folder with such tests imports the hook in its conftest.py.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest
import uvloop

_TIMEOUT_S = 30  # unless the test has a time of its own


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(_time_of(pyfuncitem)):
            await function(**arguments)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
    return True


def _time_of(test: pytest.Function) -> float:
    """A little less than that of the mark, so that a coroutine that hangs still ends what it started."""
    mark = test.get_closest_marker("timeout")
    return 0.9 * float(mark.args[0]) if mark is not None else _TIMEOUT_S
