"""The caller of a statement, and an answer that comes later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from storage.errors import StatementError
from storage.vocabulary import KeyRef, RequestKey, Result


class Caller(msgspec.Struct, frozen=True, gc=False):
    """The sender of a statement. EXCLUSIVE items belong to a `process_id` (commands.md §3).

    The other fields tell of the sender: `peer` is an address and a port, `connection` the server's number of the
    connection, `user` the name that the client gave with its password. `host` is the address alone: clients without a
    user share the room for kept answers by it.
    """

    process_id: bytes | None = None
    peer: str = ""
    connection: int = 0
    user: bytes = b""
    host: str = ""


ANYBODY = Caller()

# The end of a request. Bytes are an encoded message, sent to the client as they are. An engine gives them only for
# requests of a WebSocket connection (the MySQL port and the pages need a result or an error), and never in place of an
# error on which the shell acts (`NoRoomError`).
Outcome: TypeAlias = Result | StatementError | bytes


class Later(ABC):
    """An answer that comes later: the one object of a waiting request, made by the engine, used by both sides.

    The engine calls `done` exactly once, and never before `execute` has returned the object. The shell gives the engine
    a factory of its own subclass, with fields for what it needs to answer. `timeout_ms` asks the shell to call
    `Engine.give_up` after that time on the monotonic clock; if it is None, the engine ends the wait itself.

    The other fields are the engine's: `waits_for` is the item of a RESULT_BLOCKING, `request_key` the key of its
    message, `host` the address of its sender; `older` and `newer` chain the requests that wait for the same item.
    """

    __slots__ = ("host", "newer", "older", "request_key", "timeout_ms", "waits_for")

    def __init__(self, timeout_ms: int | None) -> None:
        self.timeout_ms = timeout_ms
        self.request_key: RequestKey | None = None
        self.host = ""
        self.waits_for: KeyRef | None = None
        self.older: Later | None = None
        self.newer: Later | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether a client still waits for the outcome."""
        return True

    @abstractmethod
    def done(self, outcome: Outcome) -> None:
        """Take the outcome: the wait is over. Raises nothing."""


# Makes one; the argument is its `timeout_ms`.
NewLater: TypeAlias = Callable[[int | None], Later]

# Runs an iterator to its end, some steps in each turn of the loop, so that other requests are answered meanwhile.
Turns: TypeAlias = Callable[[Iterator[object]], None]


def at_once(steps: Iterator[object]) -> None:
    """The `Turns` of an engine without a loop."""
    for _ in steps:
        pass
