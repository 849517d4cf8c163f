"""The answers that the store keeps, as far as this server has given them: where they are, and which have arrived.

Answers that are known to have arrived make room when it is short (decisions, "De-duplication"). Each server looks after
those that it gave: it notes the shard of each, and when the store holds too much it drops those that are proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from storage.vocabulary import RequestKey

# Answers that are remembered here. Older ones stay in the store until their time is over.
_MAX_REMEMBERED: Final = 100_000


class KeptAnswers:
    """`drop` has answers dropped from the store, all of one connection and one shard."""

    def __init__(self, drop: Callable[[int, RequestKey, list[int]], None]) -> None:
        self._drop = drop
        self._shards: dict[RequestKey, int] = {}  # oldest first; of those whose arrival nobody has proved
        self._proved: dict[RequestKey, int] = {}
        self.is_pressed = False

    def note(self, key: RequestKey, shard: int) -> None:
        """The store keeps the answer to this request. O(1)."""
        shards = self._shards
        shards[key] = shard
        if len(shards) > _MAX_REMEMBERED:
            del shards[next(iter(shards))]

    def shard_of(self, key: RequestKey) -> int | None:
        """Where the answer is, if this server knows."""
        return self._shards.get(key, self._proved.get(key))

    @property
    def unconfirmed(self) -> int:
        """Answers whose arrival nobody has proved yet."""
        return len(self._shards)

    def confirm(self, keys: Iterable[RequestKey]) -> None:
        """The peer has these answers."""
        shards, proved = self._shards, self._proved
        for key in keys:
            shard = shards.pop(key, None)
            if shard is not None:
                proved[key] = shard
        while len(proved) > _MAX_REMEMBERED:
            del proved[next(iter(proved))]
        if self.is_pressed:
            self.make_room()

    def press(self, *, is_short: bool) -> None:
        """Whether the room for answers is short, as of now."""
        self.is_pressed = is_short
        if is_short:
            self.make_room()

    def make_room(self) -> None:
        """Drop what is known to have arrived."""
        by_place: dict[tuple[int, bytes, bytes], list[int]] = {}
        for (user, connection, message_id), shard in self._proved.items():
            by_place.setdefault((shard, user, connection), []).append(message_id)
        self._proved.clear()
        for (shard, user, connection), message_ids in by_place.items():
            self._drop(shard, (user, connection, 0), message_ids)
