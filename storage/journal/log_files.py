"""Finds the end of the write-ahead log files ahead of RocksDB, and refuses damage that its recovery would pass over.

In the mode that refuses damage, RocksDB still ends a log without a word at a header of zeros and at a length that
points past the end of the file. It hangs on a fragment of unknown kind. And it refuses logs that are not damaged but
torn: a failing machine may leave zeros from the middle of a record on, and holes in any page that was never synced.

Groups carry a mark: up to where the log was synced when they were written. Damage behind the highest mark was never
promised to outlast the machine, so the log ends there. Damage ahead of it is refused.

A file is a sequence of blocks of 32 KiB, a block of fragments: masked CRC-32C (4 bytes), length (2), kind (1), data.
A record is one fragment or several; it begins with the sequence number of its first operation (8 bytes) and the
number of its operations (4): from one record to the next they leave no gap.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from storage.journal.errors import JournalError
from storage.journal.rows import SYNCED_KEY

_BLOCK_BYTES: Final = 32 * 1024
_HEADER: Final = struct.Struct("<IHB")
_BATCH: Final = struct.Struct("<QI")
_HOLE, _FULL, _FIRST, _MIDDLE, _LAST = range(5)
# The kind of a fragment in which a record begins, ahead of a sequence number, which has 56 bits.
_BEGINNING: Final = re.compile(rb"[\1\2](?=.{7}\0)", re.DOTALL)
# The sequence number of a record behind damage is this far ahead of the expected one at most.
_MAX_AHEAD: Final = 1 << 32

_POSITION: Final = struct.Struct(">QQ")
# The first operation of a record that carries a mark: PUT, the length of the key, the key, the length of the value.
_MARK: Final = bytes((1, len(SYNCED_KEY))) + SYNCED_KEY + bytes((_POSITION.size,))
_MARK_AT: Final = _HEADER.size + _BATCH.size

LogData = bytes | mmap.mmap


class LogEnd(NamedTuple):
    """What RocksDB can read of a log, and the sequence number of the next record; None when that is unknown."""

    keep_bytes: int
    next_sequence: int | None


class DamageError(JournalError):
    """Records are lost behind `keep_bytes`, and a byte ahead of `reach` is wrong."""

    def __init__(self, at: int, keep_bytes: int, reach: int, reason: str = "") -> None:
        super().__init__(f"is damaged at byte {at}{reason}; restore the directory from a backup")
        self.keep_bytes = keep_bytes
        self.reach = reach


def prepare(directory: Path, *, verify: bool = False) -> str | None:
    """Cut off the torn ends of all logs; returns a text for a warning when something behind holes was cut off.

    Raises `JournalError` when a record was lost that had been synced; no file is changed then. O(records), about
    1.5 µs each; with `verify`, and where something is wrong, every CRC is checked, which takes about 0.1 µs a byte.
    """
    try:
        with _locked(directory):
            paths = sorted(directory.glob("[0-9]*.log"), key=lambda path: int(path.stem))
            return _prepare(paths, verify)
    except OSError as error:
        raise JournalError(f"cannot read the journal in {directory}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock that RocksDB takes: another process may be writing the record that a log ends in."""
    lock = directory / "LOCK"
    if not lock.exists():  # nor is there a log
        yield
        return
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise JournalError(f"cannot open the journal in {directory}: another process has it open") from None
        yield


def _prepare(paths: list[Path], verify: bool) -> str | None:
    ends = dict.fromkeys(paths, 0)
    expected: int | None = None
    cut: str | None = None
    for index, path in enumerate(paths):
        try:
            with _mapped(path) as data:
                ends[path], expected = end_of_log(data, expected, verify=verify)
        except DamageError as damage:
            if not verify:  # this may not be the first damage
                return _prepare(paths, verify=True)
            synced = highest_mark(paths)
            if synced is None or (int(path.stem), damage.reach) <= synced:
                raise JournalError(f"{path} {damage}") from None
            ends[path] = damage.keep_bytes
            lost_bytes = sum(each.stat().st_size for each in paths[index:]) - damage.keep_bytes
            cut = (
                f"{path}: {lost_bytes} bytes from byte {damage.keep_bytes} on had holes and are dropped;"
                " they were never synced, so the machine must have failed"
            )
            break
    for path, keep_bytes in ends.items():
        if keep_bytes < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(keep_bytes)
    return cut


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[LogData]:
    if not path.stat().st_size:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def end_of_log(data: LogData, expected: int | None, *, verify: bool = False) -> LogEnd:
    """Find the end of a log. `expected` is the sequence number of its first record, if that is known.

    Raises `DamageError` when whole records follow something that is none, when anything but zeros follows a header of
    zeros, and when sequence numbers leave a gap; with `verify` also when a CRC is wrong.
    """
    zeros = _start_of_zeros(data)
    position = keep_bytes = 0
    beginning = b""  # of the record
    has_zeros = False
    for kind, start, end in _fragments(data, 0):
        position = start
        if start == end and start + _HEADER.size < zeros:
            raise DamageError(start, keep_bytes, start + 1, ": zeros, and more behind them")
        if start == end or (end > zeros and not _is_whole(data, start, end)):
            has_zeros = True
            break
        if kind > _LAST:
            raise DamageError(start, keep_bytes, start + 1, f": {kind} is no kind of record")
        if verify and not _is_whole(data, start, end):
            raise DamageError(start, keep_bytes, end)
        if kind in {_FULL, _FIRST}:
            beginning = b""
        beginning += data[start + _HEADER.size : min(end, start + _MARK_AT)]
        if kind in {_FULL, _LAST}:
            if len(beginning) >= _BATCH.size:
                sequence, count = _BATCH.unpack_from(beginning)
                if expected is not None and sequence != expected:
                    raise DamageError(keep_bytes, keep_bytes, keep_bytes + 1)
                expected = sequence + count
            keep_bytes, beginning = end, b""
        position = end
    lowest = 1 if expected is None else expected
    for start, end in _beginnings(data, position):
        sequence, _ = _BATCH.unpack_from(data, start + _HEADER.size)
        if lowest <= sequence < lowest + _MAX_AHEAD and _is_whole(data, start, end):
            raise DamageError(position, keep_bytes, position + 1, ", ahead of whole records")
    return LogEnd(keep_bytes if has_zeros else len(data), expected)


def highest_mark(paths: Iterable[Path]) -> tuple[int, int] | None:
    """The highest mark in these logs: a log file's number, and how much of it was synced, with all files before it.

    None when there is none: then nobody knows what was synced.
    """
    highest: tuple[int, int] | None = None
    for path in paths:
        with _mapped(path) as data:
            for start, end in _beginnings(data, 0):
                at = start + _MARK_AT + len(_MARK)
                if data[start + _MARK_AT : at] == _MARK and at + _POSITION.size <= end:
                    mark = _POSITION.unpack_from(data, at)
                    if (highest is None or mark > highest) and _is_whole(data, start, end):
                        highest = mark
    return highest


def _start_of_zeros(data: LogData) -> int:
    """Where the zeros begin that the log ends with; its length when it ends with something else."""
    end = len(data)
    while end:
        start = max(0, end - _BLOCK_BYTES)
        kept = data[start:end].rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def _fragments(data: LogData, position: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of the fragments from `position` on, up to a header that cannot be one.

    A header of zeros has no bytes, whatever its block still holds.
    """
    size = len(data)
    while True:
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _HEADER.size:
            position += left
            left = _BLOCK_BYTES
        if position + _HEADER.size > size:
            return
        _, length, kind = _HEADER.unpack_from(data, position)
        end = position + _HEADER.size + length
        if not (kind or length):
            yield kind, position, position
            return
        if end > position + left or end > size:
            return
        yield kind, position, end
        position = end


def _beginnings(data: LogData, position: int) -> Iterator[tuple[int, int]]:
    """Start and end of the fragments in which records begin, also behind damage; their CRCs are not checked.

    Other fragments hold what a client sent, so nothing in them counts.
    """
    while position < len(data):
        for kind, start, end in _fragments(data, position):
            if not _HOLE < kind <= _LAST:
                position = start
                break
            position = end
            if kind in {_FULL, _FIRST} and end - start >= _MARK_AT:
                yield start, end
        position = _behind_damage(data, position)


def _behind_damage(data: LogData, position: int) -> int:
    """Where the next whole record of the block begins, or the next block."""
    block_end = position - position % _BLOCK_BYTES + _BLOCK_BYTES
    for kind in _BEGINNING.finditer(data, position + _HEADER.size, block_end):
        start = kind.start() - _HEADER.size + 1
        found = next(_fragments(data, start), None)
        if found is not None and _is_whole(data, *found[1:]):
            return start
    return block_end


# --- CRC-32C: needed for the few fragments that are in doubt, so plain Python will do ------------------------------


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """The CRC with Castagnoli's polynomial. About 0.1 µs a byte."""
    crc, table = 0xFFFFFFFF, _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _is_whole(data: LogData, start: int, end: int) -> bool:
    """Whether a fragment is what its CRC, which RocksDB rotates and shifts, says."""
    (stored,) = struct.unpack_from("<I", data, start)
    crc = crc32c(data[start + 6 : end])  # kind and data
    return bool(stored == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
