"""The errors of bytes and texts that are not what they should be (wire.md §2, commands.md §8).

ProtocolError
├── DecodeError         the bytes are no request; what to answer, if anything, is in its attributes
└── StatementSyntaxError       the text is no statement; `wire_text` is the message of the HttpError
    ├── ParserError
    └── TokenizerError
"""

from __future__ import annotations

# How Rust's debug strings write the characters that they do not print as they are.
_DEBUG_ESCAPES = {code: f"\\u{{{code:x}}}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord(char): escape
    for char, escape in {"\0": "\\0", "\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}.items()
}


class ProtocolError(Exception):
    """The base of this package's errors."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class DecodeError(ProtocolError):
    """Bytes that are no request.

    `message_id` is None when it could not be read: then nothing can be answered and the message is only logged.
    Otherwise an HttpError with `wire_text` is due, and the connection is closed after it when `closes` is set.
    """

    def __init__(self, wire_text: str, message_id: int | None = None, *, closes: bool = False) -> None:
        super().__init__(wire_text)
        self.message_id = message_id
        self.closes = closes

    @property
    def wire_text(self) -> str:
        """The message of the HttpError."""
        return self.text


class StatementSyntaxError(ProtocolError):
    """A text that is no statement."""

    kind = ""

    @property
    def wire_text(self) -> str:
        """The message of the HttpError: upstream prints the error as a debug string."""
        return f'Internal: {self.kind}("{self.text.translate(_DEBUG_ESCAPES)}")'


class ParserError(StatementSyntaxError):
    """The tokens do not form a statement."""

    kind = "ParserError"


class TokenizerError(StatementSyntaxError):
    """The text cannot be cut into tokens."""

    kind = "TokenizerError"


class ReplyTooLargeError(ProtocolError):
    """A result that no reply can hold: a FlatBuffers message ends at 2 GiB. Its text is a user error's."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The result of {size_bytes} bytes is too large for one reply")
        self.size_bytes = size_bytes

    @property
    def wire_text(self) -> str:
        """The message of the HttpError."""
        return self.text
