"""Rows, parameters and placeholders of the MySQL protocol."""

from __future__ import annotations

import contextlib
import datetime
import struct
import time
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mysql_mimic.results import NullBitmap
from mysql_mimic.types import read_str_len, read_uint_len, uint_len

from protocol.errors import TokenizerError
from protocol.mysql_login import Login, read_change_user, read_login
from protocol.mysql_parameters import MalformedPacketError, read_parameters
from protocol.mysql_rows import binary_row, length_encoded, text_row
from protocol.placeholders import count_placeholders
from storage.vocabulary import Binary, Cell, ColumnType

STRING, INT, BOOLEAN = ColumnType.STRING, ColumnType.INT, ColumnType.BOOLEAN
FLOAT, TIMESTAMP, BYTES = ColumnType.FLOAT, ColumnType.TIMESTAMP, ColumnType.BYTES


# Rows


@pytest.mark.parametrize("length", [0, 250, 251, 65_535, 65_536, 0xFFFFFF, 0x1000000, 1 << 40])
def test_lengths(length: int) -> None:
    assert length_encoded(length) == uint_len(length)
    assert read_uint_len(BytesIO(length_encoded(length))) == length


CELLS: list[tuple[ColumnType, Cell, bytes]] = [
    (STRING, b"text", b"text"),
    (STRING, b"", b""),
    (STRING, Binary(b"\xff\x00"), b"0xFF00"),
    (BYTES, b"\x01", b"0x01"),
    (INT, -5, b"-5"),
    (INT, 2**63 - 1, b"9223372036854775807"),
    (BOOLEAN, True, b"true"),
    (BOOLEAN, False, b"false"),
    (FLOAT, 1.5, b"1.5"),
    (TIMESTAMP, 1_577_836_800_000, b"2020-01-01T00:00:00.000Z"),
]


@pytest.mark.parametrize(("type_", "value", "text"), CELLS)
def test_cells_of_text_rows(type_: ColumnType, value: Cell, text: bytes) -> None:
    assert text_row([type_], [value]) == bytes([len(text)]) + text
    assert text_row([STRING, type_, STRING], [b"a", None, b"b"]) == b"\x01a\xfb\x01b"


@given(st.lists(st.tuples(st.sampled_from(CELLS), st.booleans()), min_size=1, max_size=40))
def test_binary_rows_are_read_by_the_library(cells: list[tuple[tuple[ColumnType, Cell, bytes], bool]]) -> None:
    types = [type_ for (type_, _, _), _ in cells]
    row = [None if is_null else value for (_, value, _), is_null in cells]
    reader = BytesIO(binary_row(types, row))
    assert reader.read(1) == b"\0"
    nulls = NullBitmap.from_buffer(reader, len(cells), offset=2)
    for at, ((type_, value, text), is_null) in enumerate(cells):
        assert nulls.is_flipped(at) is is_null
        if not is_null and type_ is INT:
            assert struct.unpack("<q", reader.read(8))[0] == value
        elif not is_null:
            assert read_str_len(reader) == text
    assert reader.read() == b""


# Parameters


def packet(*parameters: tuple[int, int, bytes | None], new: bool = True) -> bytes:
    nulls = bytearray((len(parameters) + 7) // 8)
    for at, (_, _, content) in enumerate(parameters):
        if content is None:
            nulls[at // 8] |= 1 << at % 8
    types = b"".join(bytes((type_, flags)) for type_, flags, _ in parameters) if new else b""
    values = b"".join(content or b"" for _, _, content in parameters)
    return b"\0\1\0\0\0" + bytes(nulls) + bytes([new]) + types + values


PARAMETERS: list[tuple[int, int, bytes | None, Cell]] = [
    (0x01, 0, b"\xff", -1),
    (0x01, 0x80, b"\xff", 255),
    (0x02, 0, b"\xfe\xff", -2),
    (0x0D, 0x80, b"\xe4\x07", 2020),
    (0x03, 0, b"\xfd\xff\xff\xff", -3),
    (0x09, 0x80, b"\xff\xff\xff\xff", 2**32 - 1),
    (0x08, 0, b"\xff" * 8, -1),
    (0x08, 0x80, b"\xff" * 8, 2**64 - 1),
    (0x04, 0, struct.pack("<f", 1.5), 1.5),
    (0x05, 0, struct.pack("<d", 0.1), 0.1),
    (0x05, 0, struct.pack("<d", 600.0), 600),
    (0x05, 0, struct.pack("<d", 1e300), 1e300),
    (0x06, 0, b"", None),
    (0xFD, 0, b"\4text", b"text"),
    (0xFE, 0, b"\0", b""),
    (0xFC, 0, b"\2\xff\xfe", Binary(b"\xff\xfe")),
    (0xFD, 0, b"\xfc\x2c\x01" + b"x" * 300, b"x" * 300),
    (0xF6, 0, b"\x0212", 12),
    (0xF6, 0, b"\x041.25", 1.25),
    (0xF5, 0, b"\2{}", b"{}"),
    (0x0A, 0, b"\4\xe4\x07\x01\x1f", b"2020-01-31"),
    (0x0C, 0, b"\7\xe4\x07\x01\x1f\x0a\x14\x1e", b"2020-01-31 10:20:30"),
    (0x07, 0, b"\x0b\xe4\x07\x01\x1f\x0a\x14\x1e\x40\xe2\x01\0", b"2020-01-31 10:20:30.123456"),
    (0x0C, 0, b"\0", b"0000-00-00 00:00:00"),
    (0x0B, 0, b"\x08\x01\x01\0\0\0\x02\x03\x04", b"-26:03:04"),
    (0x0B, 0, b"\0", b"00:00:00"),
    (0xFD, 0, None, None),
]


@pytest.mark.parametrize(("type_", "flags", "content", "cell"), PARAMETERS)
def test_parameters(type_: int, flags: int, content: bytes | None, cell: Cell) -> None:
    asked = packet((0xFD, 0, b"\1a"), (type_, flags, content), (0x01, 0, b"\7"))
    cells, types = read_parameters(asked, 3, b"", {})
    assert cells == [b"a", cell, 7]
    assert type(cells[1]) is type(cell)
    assert types == bytes((0xFD, 0, type_, flags, 0x01, 0))
    again = packet((0xFD, 0, b"\1a"), (type_, flags, content), (0x01, 0, b"\7"), new=False)
    assert read_parameters(again, 3, types, {}) == (cells, types)


def test_values_that_were_sent_ahead() -> None:
    asked = packet((0xFC, 0, None), (0x01, 0, b"\7"))
    assert read_parameters(asked, 2, b"", {0: [b"ah", memoryview(b"ead")]})[0] == [b"ahead", 7]


def test_none_are_none() -> None:
    assert read_parameters(b"", 0, b"", {}) == ([], b"")


BAD: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 1),
    "no types": (packet((0x01, 0, b"\1"), new=False), 1),
    "cut off": (packet((0xFD, 0, b"\5abc")), 1),
    "a huge length": (packet((0xFD, 0, b"\xfe" + b"\xff" * 8)), 1),
    "half a length": (packet((0xFD, 0, b"\xfc\1")), 1),
    "no length": (packet((0xFD, 0, b"\xfb")), 1),
    "an error as length": (packet((0xFD, 0, b"\xff")), 1),
    "half a number": (packet((0x08, 0, b"\1")), 1),
    "a long moment": (packet((0x0C, 0, b"\x0c" + b"\0" * 12)), 1),
    "a bad decimal": (packet((0xF6, 0, b"\1x")), 1),
    "more than there are": (packet((0x01, 0, b"\1")), 60_000),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters(name: str) -> None:
    asked, count = BAD[name]
    with pytest.raises(MalformedPacketError):
        read_parameters(asked, count, b"", {})


@given(st.binary(max_size=80), st.integers(0, 20))
def test_any_bytes_are_read_or_refused(asked: bytes, count: int) -> None:
    with contextlib.suppress(MalformedPacketError):
        cells, types = read_parameters(asked, count, b"", {})
        assert len(cells) == count
        assert len(types) == 2 * count


@given(st.datetimes(), st.sampled_from([7, 11]))
def test_moments(moment: datetime.datetime, length: int) -> None:
    content = struct.pack("<HBBBBBI", *moment.timetuple()[:6], moment.microsecond)[:length]
    (cell,), _ = read_parameters(packet((0x0C, 0, bytes([length]) + content)), 1, b"", {})
    wanted = moment if length == 11 else moment.replace(microsecond=0)
    assert isinstance(cell, bytes)
    assert datetime.datetime.fromisoformat(cell.decode()) == wanted


# Logins

HEAD = struct.pack("<IIB23x", 0x0008_8208, 1 << 24, 45)
LOGINS: list[tuple[bytes, Login]] = [
    (HEAD + b"ann\0\3abcdb\0plugin\0", Login(0x0008_8208, "ann", b"abc", "plugin")),
    (HEAD + b"\0\0\0", Login(0x0008_8208, "", b"", None)),
    (HEAD + b"ann\0\0\0plugin", Login(0x0008_8208, "ann", b"", "plugin")),
    (b"\0\x82\0\0" + HEAD[4:] + b"ann\0\1x", Login(0x8200, "ann", b"x", None)),
]


@pytest.mark.parametrize(("packet_", "login"), LOGINS)
def test_logins(packet_: bytes, login: Login) -> None:
    assert read_login(packet_, 0x0008_8208) == login


def test_a_change_of_user() -> None:
    packet_ = b"bob\0\2xydb\0\x2d\0plugin\0"
    assert read_change_user(packet_, 0x0008_8208) == Login(0x0008_8208, "bob", b"xy", "plugin")
    assert read_change_user(b"bob\0\0\0", 0x8200) == Login(0x8200, "bob", b"", None)


@pytest.mark.parametrize("rest", [b"", b"ann", b"ann\0", b"ann\0\5abc", b"ann\0\0db"])
def test_logins_that_are_cut_off(rest: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        read_login(HEAD + rest, 0x0008_8208)
    with pytest.raises(MalformedPacketError):
        read_change_user(rest, 0x0008_8208)


def test_a_client_that_wants_tls_or_an_old_protocol() -> None:
    for packet_ in (HEAD, b"\0" * 40):
        with pytest.raises(MalformedPacketError):
            read_login(packet_, 0x0008_8208)


@given(st.binary(max_size=80), st.integers(0, 2**32 - 1))
def test_any_bytes_are_a_login_or_refused(rest: bytes, capabilities: int) -> None:
    for read in (read_login, read_change_user):
        with contextlib.suppress(MalformedPacketError):
            assert isinstance(read(rest, capabilities), Login)


# Placeholders


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b"SELECT 1", 0),
        (b"CACHE SET ? ?", 2),
        (b"CACHE SET '?' \"?\" `?` ?", 1),
        (rb"SELECT '\'?' , ?, 'it''s ?'", 1),
        (b"SELECT ? -- ? ?\n, ?", 2),
        (b"SELECT ? -- ?", 1),
        (b"SELECT /* ? ' */ ?", 1),
        (b"SELECT ? /* ?", 1),
        (b"SELECT 3 - 2, 4 / 2, ?", 1),
    ],
)
def test_placeholders(text: bytes, count: int) -> None:
    assert count_placeholders(text) == count


@pytest.mark.parametrize("text", [b"SELECT '?", b'SELECT "?', b"SELECT ? `x", b"SELECT '\\'"])
def test_what_is_not_closed(text: bytes) -> None:
    with pytest.raises(TokenizerError):
        count_placeholders(text)


@pytest.mark.parametrize("piece", [b"?", b"'", b"''?", b"\\'", b"/*", b"--\n", b"-", b"/", b"'x' "])
def test_placeholders_are_counted_in_linear_time(piece: bytes) -> None:
    text = b"SELECT " + piece * (1_000_000 // len(piece))
    start = time.process_time()
    with contextlib.suppress(TokenizerError):
        count_placeholders(text)
    assert time.process_time() - start < 2


def test_the_types_of_the_tests_are_all_there_are() -> None:
    covered: set[Any] = {type_ for type_, _, _ in CELLS}
    assert covered == set(ColumnType)
