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
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from protocol.errors import ProtocolError

View: TypeAlias = bytes | memoryview

ALIGNMENT = 8
MAX_BUFFER_BYTES = (1 << 31) - 1  # what a FlatBuffers verifier accepts

Reader: TypeAlias = Callable[[View, int], tuple[int, ...]]

read_u16: Reader = struct.Struct("<H").unpack_from
read_u32: Reader = struct.Struct("<I").unpack_from
read_i32: Reader = struct.Struct("<i").unpack_from
read_i64: Reader = struct.Struct("<q").unpack_from
read_f64: Callable[[View, int], tuple[float]] = struct.Struct("<d").unpack_from
pack_u32 = struct.Struct("<I").pack

_UTF8_CHUNK_BYTES = 1 << 16
_VTABLE_HEADER_BYTES = 4
_READ_SLOTS: list[Reader] = [struct.Struct(f"<{count}H").unpack_from for count in range(6)]


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


class Utf8Check:
    """The same for a text that comes in pieces."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # the first bytes of a character

    def feed(self, piece: bytes, *, is_last: bool = False) -> None:
        """Check the next piece. Raises UnicodeDecodeError. O(n)."""
        if self._held or not piece.isascii():
            piece = self._held + piece
            self._held = piece[utf_8_decode(piece, "strict", is_last)[1] :]


def fields(view: View, position: int, count: int) -> tuple[int, ...]:
    """Where the first `count` fields of the table at `position` are, from its start; 0 for an absent one. O(1)."""
    (distance,) = read_i32(view, position)
    vtable = position - distance
    if vtable < 0:
        raise MalformedError("a vtable lies before the message")
    (size,) = read_u16(view, vtable)
    if size >= _VTABLE_HEADER_BYTES + 2 * count:
        return _READ_SLOTS[count](view, vtable + _VTABLE_HEADER_BYTES)
    slots = (size - _VTABLE_HEADER_BYTES) >> 1
    if slots < 0:
        raise MalformedError("a vtable shorter than its header")
    return _READ_SLOTS[slots](view, vtable + _VTABLE_HEADER_BYTES) + (0,) * (count - slots)


def follow(view: View, field: int) -> int:
    """What the reference at `field` points to."""
    (offset,) = read_u32(view, field)
    return field + offset


def read_text(view: View, position: int) -> bytes:
    """The string at `position` as a copy: UTF-8, or an error. O(length)."""
    (length,) = read_u32(view, position)
    end = position + 4 + length
    if end > len(view):
        raise MalformedError("a string ends past the message")
    span = view[position + 4 : end]
    text = span if type(span) is bytes else bytes(span)
    if not text.isascii():
        check_utf8(text)
    return text


def read_span(view: View, position: int) -> View:
    """The vector of bytes at `position`, a slice of the view. O(1) on a memoryview."""
    (length,) = read_u32(view, position)
    end = position + 4 + length
    if end > len(view):
        raise MalformedError("a vector of bytes ends past the message")
    return view[position + 4 : end]


def read_vector(view: View, position: int, max_elements: int) -> Iterator[int]:
    """The positions that a vector of references points to, one by one. More than `max_elements` are an error."""
    (count,) = read_u32(view, position)
    start = position + 4
    end = start + 4 * count
    if end > len(view):
        raise MalformedError("a vector ends past the message")
    if count > max_elements:
        raise MalformedError(f"a vector of {count} elements, at most {max_elements} are accepted")
    return (slot + read_u32(view, slot)[0] for slot in range(start, end, 4))


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
