"""What a row of the journal looks like: its key, and the MessagePack of its value.

| key | value |
| --- | --- |
| `m` name | schema version, next id, what of the log was synced, when the server was up, the guard |
| `i` id | what an item is: fixed from ADD to its end |
| `s` id | what an item's state is: claimed, heartbeat, extra; absent until it first changes |
| `r` id | a result |
| `c` path | a cache entry |
| `a` number | the answers that were kept in one group of effects |
| `t` number | a minute of the queues; its number within a day, so that each minute replaces that of the day before |
| `h` number | a block of items that ended; its number in a ring of 256, so that each replaces an older one |
| `b` number chunk | a text of more than `INLINE_BYTES`, in chunks of `CHUNK_BYTES` |

Numbers are 8 bytes, chunks 4, big-endian: rows of one kind lie in the order of their numbers. A text that several
rows name is there once: an item, the answer of its RETRIEVE and its result may all name the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.msgpack import Ext

from storage import vocabulary
from storage.minutes import Minute
from storage.queue.history import EndedItem
from storage.vocabulary import Binary, Cell, Columns, Result

SCHEMA: Final = 1

META: Final = b"m"
ITEM: Final = b"i"
STATE: Final = b"s"
RESULT: Final = b"r"
ENTRY: Final = b"c"
ANSWERS: Final = b"a"
BLOB: Final = b"b"
MINUTE: Final = b"t"
BLOCK: Final = b"h"

SCHEMA_KEY: Final = META + b"schema"
NEXT_ID_KEY: Final = META + b"next_id"
# When the server was last known to be up, and when none was (`storage.journal.absences`).
ALIVE_KEY: Final = META + b"alive"
ABSENCES_KEY: Final = META + b"absences"
# Until when the cache guards tables (`storage.cache.drop_guard`).
GUARD_KEY: Final = META + b"guard"
# Up to where the log was synced when a group was written (`storage.journal.log_files`).
SYNCED_KEY: Final = META + b"synced"

# Longer texts are rows of their own, so that a changed row does not write them again.
INLINE_BYTES: Final = 256
CHUNK_BYTES: Final = 256 * 1024

# MessagePack extension types: a text by its number, the same for binary, a binary value in place.
_TEXT_REF: Final = 1
_BINARY_REF: Final = 2
_BINARY: Final = 3

# The column sets of answers that are kept. Their order is part of the schema: new ones go to the end.
_COLUMN_SETS: tuple[Columns, ...] = (
    vocabulary.NO_COLUMNS,
    vocabulary.ADD_COLUMNS,
    vocabulary.ADD_AND_RETRIEVE_COLUMNS,
    vocabulary.PAYLOAD_COLUMNS,
    vocabulary.RETRIEVE_COLUMNS,
    vocabulary.SUCCESS_COLUMNS,
    vocabulary.RESULT_COLUMNS,
    vocabulary.VALUE_COLUMNS,
    vocabulary.INFO_COLUMNS,
)
COLUMNS_NUMBERS: Final[dict[Columns, int]] = {columns: number for number, columns in enumerate(_COLUMN_SETS)}

# The answers without payloads, extras, results and values: most.
WITHOUT_TEXTS: Final = frozenset({vocabulary.NO_COLUMNS, vocabulary.ADD_COLUMNS, vocabulary.SUCCESS_COLUMNS})

# A text as it stands in a row: itself, or a reference.
Stored: TypeAlias = Any


class ItemRow(msgspec.Struct, array_like=True, gc=False):
    """Times in wall clock milliseconds, as everywhere. Fields with a default are missing in rows of older servers."""

    path: bytes
    payload: Stored
    priority: int
    created_ms: int
    orphaned_ms: int | None
    process_id: bytes | None
    exclusive: bool
    external_id: bytes | None
    added_peer: str = ""
    added_connection: int = 0


class StateRow(msgspec.Struct, array_like=True, gc=False):
    """`claimed_by_*` say who claimed it: process id, peer and connection.

    `moved_until_ms`: absences up to here (`storage.journal.absences`) had moved its times before the row was written.
    """

    active: bool
    heartbeat_ms: int | None
    extra: Stored
    claimed_by_process: bytes | None = None
    claimed_by_peer: str = ""
    claimed_by_connection: int = 0
    moved_until_ms: int = 0
    claimed_ms: int | None = None


class ResultRow(msgspec.Struct, array_like=True, gc=False):
    """`moved_until_ms` as of a state."""

    path: bytes
    value: Stored
    external_id: bytes | None
    expire_ms: int
    taken: bool
    moved_until_ms: int = 0


class EntryRow(msgspec.Struct, array_like=True, gc=False):
    """`written` counts the writes to the cache: it orders the entries by their last ones."""

    value: Stored
    expires_ms: int
    written: int


class AnswerRow(msgspec.Struct, array_like=True):
    """One kept answer; a row of the table is a list of these. Written as a plain tuple, which is quicker to make."""

    user: bytes
    connection_id: bytes
    message_id: int
    answered_ms: int
    columns: int
    rows: list[list[Stored]]


encode = msgspec.msgpack.Encoder().encode
decode_item = msgspec.msgpack.Decoder(ItemRow).decode
decode_state = msgspec.msgpack.Decoder(StateRow).decode
decode_result = msgspec.msgpack.Decoder(ResultRow).decode
decode_entry = msgspec.msgpack.Decoder(EntryRow).decode
decode_answers = msgspec.msgpack.Decoder(list[AnswerRow]).decode
decode_minutes = msgspec.msgpack.Decoder(list[tuple[bytes | None, Minute]]).decode
decode_block = msgspec.msgpack.Decoder(tuple[int, list[EndedItem]]).decode
decode_number = msgspec.msgpack.Decoder(int).decode


FIRST_CHUNK: Final = bytes(4)


def numbered(kind: bytes, number: int) -> bytes:
    """The key of a row with a number."""
    return kind + number.to_bytes(8, "big")


def number_of(key: bytes) -> int:
    """The number in the key of such a row."""
    return int.from_bytes(key[1:9], "big")


def chunk_key(number: int, chunk: int) -> bytes:
    """The key of one chunk of a text."""
    return BLOB + number.to_bytes(8, "big") + chunk.to_bytes(4, "big")


def chunk_keys(number: int, size_bytes: int) -> Iterable[bytes]:
    """The keys of all chunks of a text of this size."""
    return (chunk_key(number, chunk) for chunk in range(-(-size_bytes // CHUNK_BYTES)))


def stored(value: Cell, number_of_blob: Callable[[bytes], int]) -> Stored:
    """A cell as it stands in a row."""
    if type(value) is bytes and len(value) <= INLINE_BYTES:
        return value
    if not isinstance(value, bytes):
        return value
    if len(value) > INLINE_BYTES:
        code = _BINARY_REF if type(value) is Binary else _TEXT_REF
        return Ext(code, number_of_blob(value).to_bytes(8, "big"))
    return Ext(_BINARY, bytes(value)) if type(value) is Binary else value


def loaded(value: Stored, blob: Callable[[int, bool], bytes]) -> Any:
    """The cell that stands in a row. `blob` gives a text by its number, and may raise KeyError."""
    if not isinstance(value, Ext):
        return value
    if value.code == _BINARY:
        return Binary(value.data)
    if value.code in {_TEXT_REF, _BINARY_REF}:
        return blob(int.from_bytes(value.data, "big"), value.code == _BINARY_REF)
    raise ValueError(f"extension type {value.code} is unknown")


def result_of(answer: AnswerRow, blob: Callable[[int, bool], bytes]) -> Result:
    """The kept result of a row. Raises KeyError when a text it names is gone: it was dropped before."""
    return Result(_COLUMN_SETS[answer.columns], tuple(tuple(loaded(cell, blob) for cell in row) for row in answer.rows))
