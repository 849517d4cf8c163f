"""A request that waits, for tests without a dispatcher: it keeps what it is told."""

from __future__ import annotations

from storage.asking import Later, Outcome


class Told(Later):
    """Keeps every outcome: more than one is a mistake of the engine."""

    __slots__ = ("outcomes",)

    def __init__(self, timeout_ms: int | None) -> None:
        super().__init__(timeout_ms)
        self.outcomes: list[Outcome] = []

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> Outcome:
        """The only one."""
        [outcome] = self.outcomes
        return outcome
