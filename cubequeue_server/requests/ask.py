"""A request that waits: one object, for connections, the MySQL port and the pages alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from cubequeue_server.requests.client import Client
from storage.asking import Later, Outcome
from storage.engine import Inspectable
from storage.errors import SEEN_WAS_LOST, StatementError, UserError
from storage.vocabulary import Statement


class Owner(Protocol):
    """The dispatcher, as a request sees it."""

    def complete(self, ask: Ask, outcome: Outcome) -> None:
        """Take the outcome of a request."""


class Ask(Later):
    """A request that an engine answers later. The dispatcher sets the fields when the engine returns the object.

    `client` sent it as `message_id`, the connections in `repeats` sent it again; for a caller inside this process,
    `tell` gets the outcome instead. `began_ns` is the wall clock at the execution, `tick` the place in the timing
    wheel, 0 for none. No field is a bound method: there may be a hundred thousand of these objects.
    """

    __slots__ = "began_ns", "client", "message_id", "owner", "repeats", "response_format", "statement", "tell", "tick"

    began_ns: int
    client: Client | None
    owner: Owner
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
        self.owner.complete(self, outcome)


# An engine returns this for a statement that is passed on as it came; its answer arrives ready, on another way.
RELAYED: Final = Ask(None)


class _Waiter:
    """Takes the outcome of one request without a dispatcher."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def complete(self, ask: Ask, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


async def told(later: Later) -> Outcome:
    """Wait for the outcome of a `Later` that no dispatcher has taken up."""
    waiter = cast(Ask, later).owner = _Waiter()
    return await waiter.outcome


async def settle(store: Inspectable, losses: int) -> None:
    """Wait until all that was read since `losses` was noted is durable. Raises UserError when it was lost."""
    later = store.settled(losses)
    if later is not None and isinstance(await told(later), StatementError):
        raise UserError(SEEN_WAS_LOST)
