"""What the client's FlatBuffers verifier demands of a reply: it refuses the whole message for any of these.

Positions within bounds and on multiples of their size, vtables that fit their tables, strings in UTF-8 with a NUL
behind them, required fields, unions whose type and value agree, no more than ten million tables.
"""

from __future__ import annotations

import struct

from protocol import schema

MAX_TABLES = 10_000_000
MAX_BYTES = 1 << 31


class Verifier:
    """Walks one buffer; every check is an assertion."""

    def __init__(self, buffer: bytes) -> None:
        self.buffer = buffer
        self.tables = 0
        assert len(buffer) < MAX_BYTES

    def number(self, position: int, format_: str) -> int:
        size = struct.calcsize(format_)
        assert 0 <= position <= len(self.buffer) - size, "out of bounds"
        assert position % size == 0, "unaligned"
        value: int = struct.unpack_from(f"<{format_}", self.buffer, position)[0]
        return value

    def reference(self, position: int) -> int:
        offset = self.number(position, "I")
        assert offset > 0
        return position + offset

    def table(self, position: int, *formats: str) -> list[int]:
        """Check a table with fields of these formats; the positions of the fields, 0 for an absent one."""
        self.tables += 1
        assert self.tables <= MAX_TABLES
        vtable = position - self.number(position, "i")
        vtable_size, table_size = self.number(vtable, "H"), self.number(vtable + 2, "H")
        assert vtable_size >= 4
        assert vtable_size % 2 == 0
        assert vtable + vtable_size <= len(self.buffer)
        assert 4 <= table_size <= len(self.buffer) - position
        positions = []
        for slot, format_ in enumerate(formats):
            entry = 4 + 2 * slot
            offset = self.number(vtable + entry, "H") if entry < vtable_size else 0
            if offset:
                assert 4 <= offset <= table_size - struct.calcsize(format_), "a field outside its table"
                self.number(position + offset, format_)
            positions.append(position + offset if offset else 0)
        return positions

    def vector(self, position: int, element_size: int, alignment: int) -> range:
        count = self.number(position, "I")
        start = position + 4
        assert start % alignment == 0, "an unaligned vector"
        assert start + count * element_size <= len(self.buffer), "a vector past the end"
        return range(start, start + count * element_size, element_size)

    def string(self, position: int) -> bytes:
        content = self.vector(position, 1, 1)
        text = self.buffer[content.start : content.stop]
        text.decode()
        assert self.buffer[content.stop] == 0, "no NUL behind a string"
        return text

    def strings(self, position: int) -> list[bytes]:
        return [self.string(self.reference(slot)) for slot in self.vector(position, 4, 4)]


def verify_reply(reply: bytes) -> None:
    """Check one message of the server, whatever its command."""
    verifier = Verifier(reply)
    _, type_, command, _ = verifier.table(verifier.reference(0), "I", "B", "I", "I")
    kind = verifier.number(type_, "B")
    target = verifier.reference(command)
    if kind == schema.COMMAND_ERROR:
        (error,) = verifier.table(target, "I")
        verifier.string(verifier.reference(error))
    elif kind == schema.COMMAND_RESULT_SET:
        _verify_result_set(verifier, target)
    else:
        assert kind == schema.COMMAND_QUERY_RESULT, f"command {kind} is no reply"
        _verify_query_result(verifier, target)


def _verify_result_set(verifier: Verifier, position: int) -> None:
    columns, rows = verifier.table(position, "I", "I")
    names = verifier.strings(verifier.reference(columns))
    for slot in verifier.vector(verifier.reference(rows), 4, 4):
        (values,) = verifier.table(verifier.reference(slot), "I")
        cells = verifier.vector(verifier.reference(values), 4, 4)
        assert len(cells) == len(names)
        for cell in cells:
            (text,) = verifier.table(verifier.reference(cell), "I")
            if text:
                verifier.string(verifier.reference(text))


def _verify_query_result(verifier: Verifier, position: int) -> None:
    type_, data = verifier.table(position, "B", "I")
    kind = verifier.number(type_, "B")
    target = verifier.reference(data)
    if kind == schema.DATA_COMPLETED:
        verifier.table(target)
        return
    assert kind == schema.DATA_ARROW
    stream, is_last = verifier.table(target, "I", "B")
    verifier.vector(verifier.reference(stream), 1, 1)
    assert verifier.number(is_last, "B") == 1
