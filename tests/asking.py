"""What asks an engine in tests without a dispatcher: a request that keeps what it is told, and readings run by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from storage.asking import Later, Outcome
from storage.vocabulary import Result, Row

T = TypeVar("T")


class Told(Later):
    """Keeps every outcome: more than one is a mistake of the engine. `then` is called with each."""

    __slots__ = ("outcomes", "then")

    def __init__(self, timeout_ms: int | None) -> None:
        super().__init__(timeout_ms)
        self.outcomes: list[Outcome] = []
        self.then: Callable[[Outcome], None] | None = None

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self.then is not None:
            self.then(outcome)

    @property
    def outcome(self) -> Outcome:
        """The only one."""
        [outcome] = self.outcomes
        return outcome

    @property
    def rows(self) -> list[Row]:
        """The rows of the only one."""
        outcome = self.outcome
        assert isinstance(outcome, Result), outcome
        return list(outcome.rows)


def _nothing() -> None:
    raise AssertionError("it waits for something")


def run(coroutine: Coroutine[Any, Any, T], settle: Callable[[], None] = _nothing) -> T:
    """Run a reading to its end. `settle` is called whenever it waits; without it, it must not."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a coroutine says no more of it
        settle()


async def rows_of(slices: AsyncIterator[list[T]]) -> list[T]:
    """All rows of a reading."""
    return [row async for some in slices for row in some]
