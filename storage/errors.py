"""The errors a statement can end in, and the texts that clients see (commands.md §8).

StatementError          the statement had no effect; `wire_text` is the message of the HttpError
├── UserError           the text goes to the client as it is
│   └── NoRoomError     an ACK whose result does not fit
└── InternalError       the text is prefixed `Internal: `
"""

from __future__ import annotations

from typing import Final


class StatementError(Exception):
    """A statement that was refused. It changed nothing; neither the connection nor another request is affected."""

    prefix = ""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def wire_text(self) -> str:
        """The message of the HttpError, as upstream prints it."""
        return f"{self.prefix}{self.text}"


class UserError(StatementError):
    """What the user asked cannot be done; upstream's *user* errors."""


class NoRoomError(UserError):
    """The queue has no room for the result of the item `key`; `size_bytes` are needed and `limit_bytes` allowed."""

    def __init__(self, text: str, key: bytes | int, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(text)
        self.key = key
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InternalError(StatementError):
    """Upstream's *internal* errors: a value that cannot be read as what the command needs."""

    prefix = "Internal: "


# The error of a reading that took several steps, in between which a failed write took back what it has read.
SEEN_WAS_LOST: Final = "what this statement has read was lost by a failed write, ask again"
