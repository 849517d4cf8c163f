"""What can go wrong between a server and its store, and what a client is told of it."""

from __future__ import annotations

from typing import Final

from storage.errors import InternalError, StatementError, UserError

UNKNOWN: Final = "the connection to the store was lost: nobody knows whether this statement was executed"


class StoreUnreachableError(Exception):
    """The store, or what tells where it is, does not answer now. It is tried again."""


class StoreRefusedError(Exception):
    """A command was answered with an error; the text is the engine's."""


class CannotUseError(Exception):
    """The store must not be used as it is; the text is why, as the start says it."""


class TooBusyError(UserError):
    """More statements wait for the store than are allowed to."""


# Errors of an engine that is not ready now, or not the one to ask: the command was not executed, and is asked again.
NOT_NOW: Final = ("NOREPLICAS", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED")
NOT_HERE: Final = ("MOVED", "ASK", "READONLY")


def of_reply(text: str) -> StatementError:
    """What a client is told when the engine refused to run a script."""
    if text.startswith("OOM "):
        return UserError("refused: the store is out of memory")
    if text.startswith("NOREPLICAS"):
        return UserError("refused: the store has too few replicas")
    if text.startswith(("NOPERM", "NOAUTH", "WRONGPASS")):
        return UserError(f"refused: the store does not allow it: {text}")
    return InternalError(f"the store failed: {text}")
