"""A request that waits: one object, for a connection, for the MySQL port and for the pages alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from cubequeue_server.requests.client import Client
from storage.asking import Later, Outcome
from storage.engine import Inspectable
from storage.errors import SEEN_WAS_LOST, StatementError, UserError
from storage.vocabulary import Statement


class Desk(Protocol):
    """The dispatcher, as a request sees it."""

    def complete(self, ask: Ask, outcome: Outcome) -> None:
        """The outcome of a request has come."""


class Ask(Later):
    """What the dispatcher notes of a request that an engine answers later; it does so as soon as it gets the object.

    `client` asked it as `message_id`, other connections in `repeats` asked the same again; for callers inside this
    process `tell` is given the outcome instead. `began_ns` is the wall clock when it was executed, `tick` its place
    in the timing wheel, 0 if it has none. No field is a bound method: there may be a hundred thousand of these.
    """

    __slots__ = (
        "began_ns",
        "client",
        "desk",
        "message_id",
        "repeats",
        "response_format",
        "statement",
        "tell",
        "tick",
    )

    began_ns: int
    client: Client | None
    desk: Desk
    message_id: int
    repeats: tuple[Client, ...]
    response_format: int
    statement: type[Statement]
    tell: Callable[[Outcome], None] | None
    tick: int

    @property
    def is_wanted(self) -> bool:
        return self.tell is not None or any(
            client is not None and client.is_open for client in (self.client, *self.repeats)
        )

    def done(self, outcome: Outcome) -> None:
        self.desk.complete(self, outcome)


class _Told:
    """Takes the outcome of one request that no dispatcher has taken up."""

    def __init__(self, told: asyncio.Future[Outcome]) -> None:
        self._told = told

    def complete(self, ask: Ask, outcome: Outcome) -> None:
        if not self._told.done():
            self._told.set_result(outcome)


async def told(later: Later) -> Outcome:
    """Wait for the outcome of a `Later` that no dispatcher has taken up."""
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    cast(Ask, later).desk = _Told(outcome)
    return await outcome


async def settle(store: Inspectable, losses: int) -> None:
    """Wait until everything is durable that can have been read since `losses` was noted.

    Raises UserError when it was lost.
    """
    later = store.settled(losses)
    if later is not None and isinstance(await told(later), StatementError):
        raise UserError(SEEN_WAS_LOST)
