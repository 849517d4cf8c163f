"""Statements that ask several shards, and are done when all of them have answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cubequeue_server.engines.shared_store.calls import Then
from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.core import Core
from storage.errors import StatementError


class Gathering:
    """Collects `count` replies. `end` is called with all of them in the order of their places; when one is an error,
    `fail` with the first such, once all have come."""

    def __init__(
        self,
        core: Core,
        count: int,
        end: Callable[[list[list[Reply]]], None],
        fail: Callable[[StatementError], object],
    ) -> None:
        self._core = core
        self._end = end
        self._fail = fail
        self._left = count
        self._replies: list[list[Reply]] = [[] for _ in range(count)]
        self._failure: StatementError | None = None

    def take(self, place: int) -> Then:
        """What takes the reply of a place."""
        return partial(self._take, place)

    def _take(self, place: int, reply: list[Reply] | StatementError) -> None:
        if isinstance(reply, StatementError) or reply[0] != b"=":
            self._failure = self._failure or self._core.error_of(reply)
        else:
            self._replies[place] = reply
        self._left -= 1
        if self._left:
            return
        if self._failure is not None:
            self._fail(self._failure)
        else:
            self._end(self._replies)
