"""Coroutine tests run on uvloop, each within a time that a hang cannot exceed."""

from __future__ import annotations

from tests.server.conftest import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
