"""FlatBuffers by hand: bounds-checked reading, and writing by position-independent blocks (wire.md §4).

The published runtime verifies nothing and costs ten times more than these few functions; the tests use it as an
oracle. Reading works on `bytes` and `memoryview` alike. Offsets that point forward are unsigned and reads past the
end raise, so what is left to check by hand is small: a vtable before the first byte, and slices, which Python
would silently cut short.

Writing composes blocks: a table carries its own vtable in front and its children behind, so a block means the same
wherever it is put, as long as it starts on a multiple of `ALIGNMENT`.
"""

from __future__ import annotations

import struct
from codecs import utf_8_decode
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from protocol.errors import ProtocolError

View: TypeAlias = bytes | memoryview

ALIGNMENT = 8
MAX_BUFFER_BYTES = (1 << 31) - 1  # what a FlatBuffers verifier accepts

read_u16 = struct.Struct("<H").unpack_from
read_u32 = struct.Struct("<I").unpack_from
read_i32 = struct.Struct("<i").unpack_from
read_i64 = struct.Struct("<q").unpack_from
read_f64 = struct.Struct("<d").unpack_from
pack_u32 = struct.Struct("<I").pack

_UTF8_CHUNK_BYTES = 1 << 16
_VTABLE_HEADER_BYTES = 4


class MalformedError(ProtocolError):
    """Bytes that are not the FlatBuffers they should be. Reading also raises `struct.error`, past the end."""


READ_ERRORS = (MalformedError, struct.error, IndexError, UnicodeDecodeError)


def check_utf8(text: bytes) -> None:
    """Raise UnicodeDecodeError unless the text is UTF-8. O(n), a constant amount of memory."""
    if text.isascii():
        return
    view, position, size = memoryview(text), 0, len(text)
    while position < size:
        end = position + _UTF8_CHUNK_BYTES
        position += utf_8_decode(view[position:end], "strict", end >= size)[1]


def read_text(view: View, position: int) -> bytes:
    """The string at `position` as a copy: UTF-8, or an error."""
    text = read_bytes(view, position)
    if not text.isascii():
        check_utf8(text)
    return text


def read_bytes(view: View, position: int) -> bytes:
    """The vector of bytes at `position`, as a copy."""
    return bytes(read_span(view, position))


def read_span(view: View, position: int) -> View:
    """The vector of bytes at `position`, a slice of the view."""
    start = position + 4
    end = start + read_u32(view, position)[0]
    if end > len(view):
        raise MalformedError("a string or vector ends past the message")
    return view[start:end]


def read_vector(view: View, position: int, max_elements: int) -> list[int]:
    """The positions that a vector of references points to. O(elements); more than `max_elements` are an error."""
    count = read_u32(view, position)[0]
    start = position + 4
    if start + 4 * count > len(view):
        raise MalformedError("a vector ends past the message")
    if count > max_elements:
        raise MalformedError(f"a vector of {count} elements, at most {max_elements} are accepted")
    offsets = struct.unpack_from(f"<{count}I", view, start)
    return [slot + offset for slot, offset in zip(range(start, start + 4 * count, 4), offsets, strict=True)]


class Table:
    """A table of a message. Every read is bounds-checked and O(1), or O(size) where it copies."""

    __slots__ = ("_end", "_view", "_vtable", "position")

    def __init__(self, view: View, position: int) -> None:
        vtable = position - read_i32(view, position)[0]
        if vtable < 0:
            raise MalformedError("a vtable lies before the message")
        size = read_u16(view, vtable)[0]
        if size < _VTABLE_HEADER_BYTES or vtable + size > len(view):
            raise MalformedError("a vtable of an impossible size")
        self.position = position
        self._view = view
        self._vtable = vtable
        self._end = vtable + size - 1  # of the last byte: a slot of two bytes has to begin before it

    @classmethod
    def root(cls, view: View) -> Table:
        """The root table of a message."""
        return cls(view, read_u32(view, 0)[0])

    def field(self, slot: int) -> int:
        """Where the field is in the message; 0 when it is absent."""
        entry = self._vtable + _VTABLE_HEADER_BYTES + 2 * slot
        if entry >= self._end:
            return 0
        offset: int = read_u16(self._view, entry)[0]
        return self.position + offset if offset else 0

    def reference(self, slot: int) -> int:
        """Where the field points to; 0 when it is absent."""
        field = self.field(slot)
        return field + read_u32(self._view, field)[0] if field else 0

    def required(self, slot: int, name: str) -> int:
        """Where the field points to; an error when it is absent."""
        position = self.reference(slot)
        if not position:
            raise MalformedError(f"{name} is missing")
        return position

    def u8(self, slot: int) -> int:
        field = self.field(slot)
        return self._view[field] if field else 0

    def u32(self, slot: int) -> int:
        field = self.field(slot)
        return read_u32(self._view, field)[0] if field else 0

    def i64(self, slot: int) -> int:
        field = self.field(slot)
        return read_i64(self._view, field)[0] if field else 0

    def f64(self, slot: int) -> float:
        field = self.field(slot)
        return read_f64(self._view, field)[0] if field else 0.0

    def text(self, slot: int) -> bytes | None:
        """The UTF-8 text of a string field; None when it is absent."""
        position = self.reference(slot)
        return read_text(self._view, position) if position else None


class Scalar(NamedTuple):
    """A field that lives inside its table: a `struct` format character and the value."""

    format: str
    value: int | float


class Block(NamedTuple):
    """Bytes that mean the same wherever they are put; references to the block point at `target` within them."""

    data: bytes
    target: int = 0


Field: TypeAlias = Scalar | Block | None


def padding(size: int, alignment: int = ALIGNMENT) -> bytes:
    """The zero bytes that bring `size` up to a multiple of the alignment."""
    return bytes(-size % alignment)


def _padded(data: bytes) -> bytes:
    return data + padding(len(data))


def string(text: bytes) -> Block:
    """A string: its length, its bytes, and the NUL that readers insist on."""
    return Block(_padded(b"".join((pack_u32(len(text)), text, b"\0"))))


def byte_vector(data: bytes) -> Block:
    """A vector of bytes."""
    return Block(_padded(pack_u32(len(data)) + data))


def vector(blocks: Sequence[Block]) -> Block:
    """A vector of references, and behind it what they refer to."""
    slots_bytes = 4 + 4 * len(blocks)
    position = slots_bytes + len(padding(slots_bytes))
    parts = [pack_u32(len(blocks))]
    for index, block in enumerate(blocks):
        parts.append(pack_u32(position + block.target - 4 - 4 * index))
        position += len(block.data)
    parts.append(padding(slots_bytes))
    parts += (block.data for block in blocks)
    return Block(b"".join(parts))


def table(*fields: Field, tail: int | None = None) -> Block:
    """A table of the fields in slot order, None for an absent one.

    The child in slot `tail` is put last: a caller can cut it off again, and let other bytes take its place.
    """
    offsets, size = _lay_out(fields)
    head = struct.pack(f"<{len(fields) + 2}H", 4 + 2 * len(fields), size, *offsets)
    head = bytes(-len(head) % ALIGNMENT) + head  # the vtable ends where the table begins
    body = bytearray(size + len(padding(size)))
    struct.pack_into("<i", body, 0, 4 + 2 * len(fields))
    children = [(slot, field) for slot, field in enumerate(fields) if isinstance(field, Block)]
    children.sort(key=lambda child: child[0] == tail)
    position = len(body)
    for slot, child in children:
        struct.pack_into("<I", body, offsets[slot], position + child.target - offsets[slot])
        position += len(child.data)
    for slot, field in enumerate(fields):
        if isinstance(field, Scalar):
            struct.pack_into(f"<{field.format}", body, offsets[slot], field.value)
    return Block(b"".join((head, body, *(child.data for _, child in children))), len(head))


def _lay_out(fields: Sequence[Field]) -> tuple[list[int], int]:
    """The offset of each field within its table, 0 for an absent one, and the size of the table."""
    offsets, size = [], 4
    for field in fields:
        if field is None:
            offsets.append(0)
            continue
        width = struct.calcsize(f"<{field.format}") if isinstance(field, Scalar) else 4
        size += -size % width
        offsets.append(size)
        size += width
    return offsets, size


def message(root: Block) -> bytes:
    """A whole buffer: the reference to the root table, and the table."""
    return b"".join((pack_u32(ALIGNMENT + root.target), bytes(ALIGNMENT - 4), root.data))
