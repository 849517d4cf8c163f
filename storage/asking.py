"""Who asks, and an answer that comes later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from storage.errors import StatementError
from storage.vocabulary import KeyRef, RequestKey, Result


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who asks. EXCLUSIVE items belong to a process id (commands.md §3); the rest is for people who look for an owner.

    `peer` is an address and a port, `connection` a number that the server gives each of its connections.
    """

    process_id: bytes | None = None
    peer: str = ""
    connection: int = 0


ANYBODY = Caller()

# What a request ends with. Bytes are a whole message that is ready for the client that asked.
Outcome: TypeAlias = Result | StatementError | bytes


class Later(ABC):
    """An answer that comes later: the one object of a request that waits, made by the engine, used by both sides.

    The engine calls `done` exactly once, and never before `execute` has returned the object. Whoever asked gives
    the engine a factory of its own subclass and keeps what it needs to answer in there. `timeout_ms` asks the
    asker to call `Engine.give_up` after that long on the monotonic clock; with None the engine ends the wait itself.

    The other fields are the engine's. `waits_for` is the item that a RESULT_BLOCKING waits for, `request_key` names
    the message that it answers; `older` and `newer` chain the requests that wait for the same item.
    """

    __slots__ = ("newer", "older", "request_key", "timeout_ms", "waits_for")

    def __init__(self, timeout_ms: int | None) -> None:
        self.timeout_ms = timeout_ms
        self.request_key: RequestKey | None = None
        self.waits_for: KeyRef | None = None
        self.older: Later | None = None
        self.newer: Later | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is there to take the outcome."""
        return True

    @abstractmethod
    def done(self, outcome: Outcome) -> None:
        """Take the outcome: the wait is over. Raises nothing."""


# Makes one; the argument is its `timeout_ms`.
NewLater: TypeAlias = Callable[[int | None], Later]
