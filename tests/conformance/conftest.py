"""One engine per test, chosen by parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.engines import ENGINES, Limits
from tests.conformance.script import Session

Opener = Callable[[Limits], Session]


@pytest.fixture(params=ENGINES)
def open_session(request: pytest.FixtureRequest) -> Opener:
    """Opens an engine with the limits a test needs."""
    engine: Callable[[Limits], StateMachine] = ENGINES[request.param]
    return lambda limits: Session(engine(limits))


@pytest.fixture
def session(open_session: Opener) -> Session:
    """An engine with the default limits."""
    return open_session(Limits())
