"""One engine per test, chosen by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.engines import ENGINES, Candidate, Limits
from tests.conformance.script import Session

Opener = Callable[[Limits], Session]

# An engine that answers later is also asked several things at once.
_WAYS = [(engine, False) for engine in ENGINES]
_WAYS += [(engine, True) for engine in ENGINES if not engine.answers_at_once and engine.keeps_order]


@pytest.fixture(params=_WAYS, ids=[f"{engine}{', all at once' * at_once}" for engine, at_once in _WAYS])
def way(request: pytest.FixtureRequest) -> tuple[Candidate, bool]:
    """An engine, and whether statements are sent before those ahead of them were answered."""
    engine, at_once = request.param
    return engine, at_once


@pytest.fixture
def open_session(way: tuple[Candidate, bool]) -> Iterator[Opener]:
    """Opens an engine with the limits a test needs."""
    engine, at_once = way
    opened: list[Session] = []

    def open_(limits: Limits) -> Session:
        opened.append(Session(engine, limits, at_once=at_once))
        return opened[-1]

    yield open_
    for session in opened:
        session.close()


@pytest.fixture
def session(open_session: Opener) -> Session:
    """An engine with the default limits."""
    return open_session(Limits())


@pytest.fixture
def exact_limits(way: tuple[Candidate, bool]) -> None:
    """For tests that meet a bound exactly."""
    if not way[0].exact_limits:
        pytest.skip("its limits are approximate")


@pytest.fixture
def two_rooms(way: tuple[Candidate, bool]) -> None:
    """For tests that fill the room of one kind of answers, and use that of the other."""
    if not way[0].two_rooms:
        pytest.skip("all its kept answers have one room")


@pytest.fixture
def exact_eviction(way: tuple[Candidate, bool]) -> None:
    """For tests that tell which entries are evicted, and when."""
    if not way[0].exact_eviction:
        pytest.skip("its eviction is approximate")
