"""Requests that were executed or begun and not answered yet (wire.md §3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cubequeue_server.requests.open_statements import OpenStatement
from protocol.messages import Request
from storage.engine import Outcome, RequestKey
from storage.vocabulary import Statement

if TYPE_CHECKING:
    from cubequeue_server.requests.connection import Connection


class InFlight(OpenStatement):
    """One request, and the connections that wait for its answer: `connection`, and those that repeated it.

    A repeat finds it by `key`; under `kept_key` the store keeps the answer, if it does. There is no list in one
    without repeats.
    """

    __slots__ = ("connection", "kept_key", "key", "message_id", "repeats", "response_format")

    def __init__(  # noqa: PLR0917  # by position: it is made once a wait, and keywords cost more
        self,
        connection: Connection,
        request: Request,
        statement: type[Statement],
        key: RequestKey | None,
        kept_key: RequestKey | None,
        on_outcome: Callable[[InFlight, Outcome], None],
    ) -> None:
        super().__init__(statement, on_outcome)
        self.connection = connection
        self.repeats: tuple[Connection, ...] = ()
        self.message_id = request.message_id
        self.response_format = request.response_format
        self.key = key
        self.kept_key = kept_key

    @property
    def receivers(self) -> tuple[Connection, ...]:
        """All that are to be answered."""
        return (self.connection, *self.repeats)


class InFlightTable:
    """All requests in flight; those with a key are found by it, so that a repeat joins instead of running again.

    `clock_s` is a monotonic clock, and so are the `since_s` of the requests.
    """

    __slots__ = ("_by_key", "_clock_s", "_count", "_kept_s")

    def __init__(self, kept_s: float, clock_s: Callable[[], float]) -> None:
        self._by_key: dict[RequestKey, InFlight] = {}
        self._kept_s = kept_s
        self._clock_s = clock_s
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, key: RequestKey) -> InFlight | None:
        """The request that a message with this key repeats."""
        return self._by_key.get(key) if self._by_key else None

    def add(self, request: InFlight) -> None:
        """Its receivers wait from now on."""
        self._count += 1
        request.since_s = self._clock_s()
        request.connection.in_flight += 1
        if request.key is not None:
            self._by_key[request.key] = request

    def join(self, request: InFlight, connection: Connection) -> None:
        """Answer `connection` as well, once."""
        if connection not in request.receivers:
            # Those that have gone meanwhile need no place: a client may come back any number of times.
            request.repeats = (*(each for each in request.repeats if each.is_open), connection)
            connection.in_flight += 1

    def remove(self, request: InFlight) -> None:
        """It is being answered."""
        self._count -= 1
        for connection in request.receivers:
            connection.in_flight -= 1
        if request.key is not None and self._by_key.get(request.key) is request:
            del self._by_key[request.key]

    def forget_old(self) -> None:
        """Let repeats of requests that are in flight for too long run anew; the old ones still get their answer."""
        oldest_s = self._clock_s() - self._kept_s
        while self._by_key:
            key, request = next(iter(self._by_key.items()))
            if request.since_s >= oldest_s:
                break
            del self._by_key[key]
