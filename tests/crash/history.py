"""What clients asked and were told, in the one order in which it happened to them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec.structs import replace

from protocol.client_codec import Reply, Rows
from storage.vocabulary import Statement

Row: TypeAlias = tuple[bytes | None, ...]
# The rows of an answer, or the text of an error.
Answer: TypeAlias = tuple[Row, ...] | str


def expand(tag: bytes) -> bytes:
    """The text that a tag such as `c1.17.3000` stands for: its last number is the size. No two tags have one text."""
    size = int(tag.rpartition(b".")[2])
    return tag if size <= len(tag) else (tag + b"|" + tag * (size // len(tag) + 1))[:size]


def collapse(value: bytes | None) -> bytes | None:
    """The tag of a text, so that histories stay short. What is no whole text of any tag is no tag either."""
    if value is None:
        return None
    if value.startswith(b"{"):
        return canonical({name: _collapsed(text.encode()).decode() for name, text in json.loads(value).items()})
    return _collapsed(value)


def _collapsed(value: bytes) -> bytes:
    tag, bar, _ = value.partition(b"|")
    if bar and tag.rpartition(b".")[2].isdigit() and expand(tag) == value:
        return tag
    return value if len(value) < 64 and not bar else b"damaged " + hashlib.sha256(value).hexdigest().encode()


def canonical(extra: dict[str, str]) -> bytes:
    """An extra with its names in order: the server may give them in any."""
    return json.dumps(extra, sort_keys=True).encode()


def expanded(statement: Statement) -> Statement:
    """The statement with texts in place of tags, as it is sent."""
    changed: dict[str, Any] = {}
    for name in ("payload", "value"):
        tag = getattr(statement, name, None)
        if tag is not None:
            changed[name] = expand(tag)
    extra = getattr(statement, "extra", None)
    if extra is not None:
        texts = {name: expand(tag.encode()).decode() for name, tag in json.loads(extra).items()}
        changed["extra"] = json.dumps(texts).encode()
    return replace(statement, **changed) if changed else statement


@dataclass(eq=False)
class Operation:
    """One statement of one client, with tags in place of texts.

    `begin` and `end` are places in the order of all events of a history: the statement took effect between them, if
    it did. `end` is None while it has no answer. Further `answers` are those to the same message sent again later.
    """

    client: str
    message_id: int
    statement: Statement
    begin: int
    begin_ms: int = 0
    end: int | None = None
    end_ms: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the first answer; none when it was an error."""
        return () if not self.answers or isinstance(self.answers[0], str) else self.answers[0]

    def __str__(self) -> str:
        answers = " / ".join(repr(answer) for answer in self.answers)
        return f"{self.begin}-{self.end} {self.client}#{self.message_id} {self.statement} -> {answers}"


@dataclass
class History:
    """The operations of all clients. They are of one process and one loop, so the order of events is exact."""

    operations: list[Operation] = field(default_factory=list)
    events: int = 0

    def begin(self, client: str, message_id: int, statement: Statement) -> Operation:
        """To be called ahead of the first sending."""
        operation = Operation(client, message_id, statement, self._next(), _now_ms())
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, reply: Reply) -> None:
        """To be called with each answer that arrives."""
        if operation.end is None:
            operation.end, operation.end_ms = self._next(), _now_ms()
        operation.answers.append(answer_of(reply))

    def _next(self) -> int:
        self.events += 1
        return self.events


def answer_of(reply: Reply) -> Answer:
    """A reply as it is kept."""
    if isinstance(reply, Rows):
        return tuple(tuple(map(collapse, row)) for row in reply.rows)
    return getattr(reply, "text", "an Arrow stream")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
