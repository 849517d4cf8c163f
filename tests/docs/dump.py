"""The annotated bytes of docs/protocol.md.

+ statement            is executed before, its bytes are not shown
> 7 statement          is sent with this message id
> 7 arrow statement    asks for an Arrow reply
? value, value         its native parameters
0000  18 00 00 00      what these bytes of it mean
< …                    its answer, and the bytes of that
0000  18 00 00 00      what they mean
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.messages import ResponseFormat
from storage.vocabulary import Cell
from tests.docs.transcript import parameters_of

_LINE = re.compile(r"(?P<offset>[0-9a-f]{4})  (?P<bytes>[0-9a-f]{2}(?: [0-9a-f]{2})*) {2,}(?P<meaning>\S.*)")
_ASKED = re.compile(r"> (?P<message_id>\d+) (?P<arrow>arrow )?(?P<statement>.+)")

# What a meaning may say of its bytes: each number in it must be what the bytes hold. `offset` is where they are.
_CLAIMS: list[tuple[str, Callable[[bytes, int], tuple[object, ...]]]] = [
    (r"vtable of \w+: (\d+) bytes, of a table of (\d+)", lambda data, _: struct.unpack_from("<2H", data)),
    (r"vtable is (\d+) bytes before", lambda data, _: struct.unpack_from("<i", data)),
    (r"(\d+) further on, at 0x([0-9a-f]+)", lambda data, offset: (_u32(data), f"{offset + _u32(data):x}")),
    (r"; (?:values are|the string) (\d+) further on", lambda data, _: (_u32(data, 4),)),
    (r"root table is at 0x([0-9a-f]+)", lambda data, _: (f"{_u32(data):x}",)),
    (r"^message_id (\d+)|v: (\d+)", lambda data, _: (_u32(data),)),
    (r"type (\d+):", lambda data, _: (data[0],)),
    (r"^(\d+) (?:parameter|columns?|rows?|values?)\b|a string of (\d+) bytes", lambda data, _: (_u32(data),)),
    (r"^(\d+) bytes?: (.+)", lambda data, _: (_u32(data), data[4:].rstrip(b"\0").decode())),
]


def _u32(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 4], "little")


@dataclass
class Dump:
    """One exchange as it is written down."""

    before: list[str] = field(default_factory=list)
    message_id: int = 0
    statement: str = ""
    response_format: ResponseFormat = ResponseFormat.LEGACY
    parameters: list[Cell] | None = None
    request: bytes = b""
    answer: list[str] = field(default_factory=list)
    reply: bytes = b""


def read_dump(lines: list[str]) -> Dump:
    """Read a block. Offsets must go on where the line before ended, and each line must say what it means."""
    dump = Dump()
    for line in lines:
        match line[0]:
            case "+":
                dump.before.append(line[2:])
            case ">":
                asked = _ASKED.fullmatch(line)
                assert asked is not None, line
                dump.message_id, dump.statement = int(asked["message_id"]), asked["statement"]
                dump.response_format = ResponseFormat.ARROW if asked["arrow"] else ResponseFormat.LEGACY
            case "?":
                dump.parameters = parameters_of(line[2:])
            case "<":
                dump.answer.append(line)
            case _ if dump.answer:
                dump.reply += _bytes_at(line, len(dump.reply))
            case _:
                dump.request += _bytes_at(line, len(dump.request))
    return dump


def _bytes_at(line: str, offset: int) -> bytes:
    found = _LINE.fullmatch(line)
    assert found is not None, f"not bytes and their meaning: {line}"
    assert int(found["offset"], 16) == offset, line
    data = bytes.fromhex(found["bytes"])
    _check_meaning(data, offset, found["meaning"])
    return data


def _check_meaning(data: bytes, offset: int, meaning: str) -> None:
    for claim, truth in _CLAIMS:
        claimed = re.search(claim, meaning)
        if claimed is not None:
            said = tuple(number for number in claimed.groups() if number is not None)
            assert said == tuple(map(str, truth(data, offset))), meaning
    places = [int(place) for place in re.findall(r"at \+(\d+)", meaning)]
    if places:
        slots = data[4:] if meaning.startswith("vtable") else data
        offsets = struct.unpack(f"<{len(slots) // 2}H", slots)
        assert [each for each in offsets if each] == places, meaning
