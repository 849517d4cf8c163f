"""One call of a script or a command, from the request that asks for it to the reply that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.scripts import Script
from storage.errors import StatementError
from storage.vocabulary import RequestKey

# Gets the reply, cells behind its first word, or an error. Raises nothing.
Then: TypeAlias = "Callable[[list[Reply] | StatementError], None]"


class Handler(Protocol):
    """What handles replies that are no plain '='."""

    def on_other(self, call: Call, reply: Reply) -> None:
        """A kept answer, an item that has expired, an error of the engine: whatever."""


class Call:
    """A call that has no reply yet.

    `request` is the whole command, `script` what it runs (None: a plain command, whose reply goes to `then` as it is).
    When it is lost on the way it is repeated if `may_repeat`: because it only reads, because a second time does no
    harm, or because the script finds the answer that it kept of the first time.
    """

    __slots__ = (
        "deadline_s",
        "handler",
        "is_over",
        "key",
        "may_repeat",
        "request",
        "script",
        "shard",
        "then",
        "was_sent",
    )

    def __init__(
        self, handler: Handler, shard: int, script: Script | None, request: bytes, then: Then, *, may_repeat: bool
    ) -> None:
        self.handler = handler
        self.shard = shard
        self.script = script
        self.request = request
        self.then = then
        self.may_repeat = may_repeat
        self.deadline_s = 0.0
        self.was_sent = False  # and may have been executed
        self.is_over = False
        self.key: RequestKey | None = None  # what its answer is kept under

    def take(self, reply: Reply) -> None:
        """The reply has come and is believed."""
        if type(reply) is list and self.script is not None and reply[0] == b"=" and not self.is_over:
            self.is_over = True
            self.then(reply)
        else:
            self.handler.on_other(self, reply)

    def end(self, outcome: list[Reply] | StatementError) -> None:
        """Tell what came of it, once."""
        if not self.is_over:
            self.is_over = True
            self.then(outcome)
