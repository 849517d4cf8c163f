"""Looks at the write-ahead log files ahead of RocksDB, for what its recovery gets wrong.

In the mode that refuses damage it still takes two kinds for the end of a log, and drops what follows without a word:
a header of zeros, and a length that points past the end of the file. And a file whose tail is zeros, as a machine
that fails may leave it, is refused when they begin inside a record. So a start with either
has the former refused and the zeros cut off.

A file is a sequence of blocks of 32 KiB, a block of fragments: masked CRC-32C (4 bytes), length (2), type (1), data.
A record is one fragment or several; it begins with the sequence number of its first operation (8 bytes) and the
number of its operations (4): from one record to the next they leave no gap.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from storage.journal.errors import JournalError

BLOCK_BYTES: Final = 32 * 1024
HEADER: Final = struct.Struct("<IHB")
_BATCH: Final = struct.Struct("<QI")
_HOLE, _FULL, _FIRST, _MIDDLE, _LAST = range(5)
# How far ahead of the expected number that of a record behind some damage may be.
_MAX_AHEAD: Final = 1 << 32

_DAMAGED: Final = (
    "is damaged at byte {}: whole records follow, so it is no torn end; restore the directory from a backup"
)
_UNKNOWN: Final = "is damaged at byte {}: KIND is no kind of record; restore the directory from a backup"

LogData = bytes | mmap.mmap


class LogEnd(NamedTuple):
    """Where a log ends, and the sequence number that the next record has; None when it had no record."""

    keep_bytes: int  # what is behind is zeros, and what they cut off
    next_sequence: int | None


class DamageError(JournalError):
    """A log has lost something in its middle: whole records end at `keep_bytes`, a byte ahead of `reach` is wrong."""

    def __init__(self, text: str, keep_bytes: int, reach: int) -> None:
        super().__init__(text)
        self.keep_bytes = keep_bytes
        self.reach = reach


def prepare_logs(directory: Path) -> None:
    """Refuse lost records, cut off zeros at the end. Raises `JournalError`; O(records), about 1.5 µs each.

    Not while another process has the directory open: the end of its log may be a record that it just writes.
    """
    try:
        with locked(directory):
            _prepare_all(directory)
    except OSError as error:
        raise JournalError(f"cannot read the journal in {directory}: {error.strerror}") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock that RocksDB takes, which is by process. What has none yet has no log either."""
    lock = directory / "LOCK"
    if not lock.exists():
        yield
        return
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise JournalError(f"cannot open the journal in {directory}: another process has it open") from None
        yield


def log_paths(directory: Path) -> list[Path]:
    """The log files, oldest first."""
    return sorted(directory.glob("[0-9]*.log"), key=lambda path: int(path.stem))


def _prepare_all(directory: Path) -> None:
    expected: int | None = None
    for path in log_paths(directory):
        expected = _prepare(path, expected)


def _prepare(path: Path, expected: int | None) -> int | None:
    size = path.stat().st_size
    if not size:
        return expected
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        try:
            end = end_of_log(data, expected)
        except DamageError as error:
            raise DamageError(f"{path} {error}", error.keep_bytes, error.reach) from None
    if end.keep_bytes < size:
        with path.open("r+b") as torn:
            torn.truncate(end.keep_bytes)
    return end.next_sequence


def end_of_log(data: LogData, expected: int | None, verify_from: int | None = None) -> LogEnd:
    """Read a log to its end as RocksDB does. `expected` is the sequence number of its first record, if that is known.

    Raises `DamageError` when records are missing ahead of others; with `verify_from` also when what is behind that
    byte is not as it was written.
    """
    size = len(data)
    zeros = _start_of_zeros(data)
    position = start = 0
    head: bytes | None = None  # of the record that has begun: its first bytes
    hole: int | None = None

    def damaged(at: int, text: str = _DAMAGED, reach: int = 0) -> DamageError:
        return DamageError(text.format(at), at if head is None else start, reach or at + 1)

    while position + HEADER.size <= size:
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < HEADER.size:
            position += left
            continue
        _, length, type_ = HEADER.unpack_from(data, position)
        end = position + HEADER.size + length
        if type_ == _HOLE and not length:
            if position >= zeros:
                return LogEnd(start if head is not None else position if hole is None else hole, expected)
            hole = position if hole is None else hole
            end = min(size, position + left)
            _refuse_records(data, position, end, expected, damaged(position))
        elif end > position + left or end > size:
            _refuse_records(data, position, size, expected, damaged(position))
            break
        elif end > zeros and not is_whole(data, position, end):
            return LogEnd(position if head is None else start, expected)
        elif wrong := _wrong(data, position, end, verify_from):
            raise damaged(position, *wrong)
        else:
            if hole is not None:
                raise damaged(hole)
            if type_ in {_FULL, _FIRST}:
                start, head = position, b""
            head = (head or b"") + data[position + HEADER.size : min(end, position + HEADER.size + _BATCH.size)]
            if type_ in {_FULL, _LAST}:
                expected = _after(head, expected, start)
                head = None
        position = end
    # Zeros that begin within a header are a hole. RocksDB takes one for the end, but not within a record.
    return LogEnd(size if hole is None or head is None else start, expected)


def _wrong(data: LogData, position: int, end: int, verify_from: int | None) -> tuple[str, int] | None:
    """What is wrong with a fragment, and where that ends."""
    kind = data[position + HEADER.size - 1]
    if kind > _LAST:
        # No version of the engine has written such; RocksDB may go round in circles over it, for ever.
        return _UNKNOWN.replace("KIND", str(kind)), position + 1
    if verify_from is not None and end > verify_from and not is_whole(data, position, end):
        return _DAMAGED, end
    return None


def _after(head: bytes, expected: int | None, position: int) -> int | None:
    """The sequence number behind a record."""
    if len(head) < _BATCH.size:
        return expected
    sequence, count = _BATCH.unpack_from(head)
    if expected is not None and sequence != expected:
        raise DamageError(_DAMAGED.format(position), position, position + 1)
    return int(sequence + count)


def _start_of_zeros(data: LogData) -> int:
    """Where the zeros begin that it ends with; its length when it ends with something else."""
    end = len(data)
    while end:
        start = max(0, end - BLOCK_BYTES)
        kept = data[start:end].rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def _refuse_records(data: LogData, start: int, end: int, expected: int | None, damage: DamageError) -> None:
    """Raise when there is a whole record between: what stands ahead of it is damage then, not the end."""
    if not data[start:end].strip(b"\0"):
        return
    lowest = 1 if expected is None else expected
    for position in range(start + 1, end - HEADER.size - _BATCH.size + 1):
        _, length, type_ = HEADER.unpack_from(data, position)
        if type_ not in {_FULL, _FIRST} or length < _BATCH.size:
            continue
        record_end = position + HEADER.size + length
        if record_end > end or length > BLOCK_BYTES - position % BLOCK_BYTES - HEADER.size:
            continue
        sequence, _ = _BATCH.unpack_from(data, position + HEADER.size)
        if lowest <= sequence < lowest + _MAX_AHEAD and is_whole(data, position, record_end):
            raise damage


# --- CRC-32C: needed for the few fragments at the end that are in doubt, so plain Python will do -------------------


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


def is_whole(data: LogData, position: int, end: int) -> bool:
    """Whether a fragment is what its CRC, which RocksDB rotates and shifts, says."""
    (stored,) = struct.unpack_from("<I", data, position)
    crc = crc32c(data[position + 6 : end])  # type and data
    return bool(stored == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
