"""What an engine does that keeps no state and lets nothing wait."""

from __future__ import annotations

from storage.asking import Later
from storage.vocabulary import RequestKey


class Stateless:
    """A base for such engines (`storage.engine.Engine`)."""

    def give_up(self, later: Later, now_ms: int) -> None:
        """Nothing waits for anything that can be given up."""

    def end_waits(self, now_ms: int) -> None:
        """Nothing waits."""

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """No answer is kept."""

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """No answer is kept."""

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """There is no work."""
        return False
