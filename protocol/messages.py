"""The request as data, after its frame was decoded and before its text was parsed (wire.md §3, §4)."""

from __future__ import annotations

import enum

import msgspec

from storage.vocabulary import Cell


class ResponseFormat(enum.IntEnum):
    """What the client asks its answer to be written as (wire.md §5)."""

    LEGACY = 0
    ARROW = 1


class Unread(bytes):
    """The place of a large text that is still in its message, where `view` shows it (`protocol.large`)."""

    view: memoryview
    is_binary: bool


class InlineTable(msgspec.Struct, gc=False):
    """A temporary table sent with a query; tolerated, used by no QUEUE or CACHE statement (wire.md §4)."""

    name: bytes
    columns: tuple[bytes, ...]
    types: tuple[bytes, ...]
    csv_rows: bytes


class Request(msgspec.Struct, gc=False):
    """One HttpQuery.

    `query` is valid UTF-8. `parameters` holds text as `bytes`, binary as `Binary`, and numbers, truth values and
    None as themselves; it is None when the client sent no parameter vector at all. Of a large message either may be
    `Unread`. One that `passes_on` is for another server: its `query` is the beginning of its text.
    """

    message_id: int
    connection_id: bytes | None
    query: bytes
    parameters: tuple[Cell, ...] | None = None
    response_format: int = ResponseFormat.LEGACY
    trace: bytes | None = None
    inline_tables: tuple[InlineTable, ...] = ()
    passes_on: bool = False
