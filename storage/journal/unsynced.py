"""What a failing machine leaves of a log's end that was never synced: any part of it, holes included.

RocksDB refuses a hole ahead of whole records, and so does `log_files`: records that were once on the disk are missing.
But what was never synced was never promised to outlast the machine, and the file system may write its pages in any
order. To tell the two apart, groups carry a mark: up to where the log was synced when they were written. A hole
behind the highest mark is the end of the log; one ahead of it is damage, and refused.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from storage.journal import rows
from storage.journal.errors import JournalError
from storage.journal.log_files import (
    BLOCK_BYTES,
    HEADER,
    DamageError,
    LogData,
    end_of_log,
    is_whole,
    locked,
    log_paths,
    prepare_logs,
)

_POSITION: Final = struct.Struct(">QQ")
# The first operation of a record that carries a mark, behind sequence number and count: PUT, lengths and key.
_BATCH_BYTES: Final = 12
_PREFIX: Final = bytes([1, len(rows.SYNCED_KEY)]) + rows.SYNCED_KEY + bytes([_POSITION.size])
_MARK_BYTES: Final = _BATCH_BYTES + len(_PREFIX) + _POSITION.size
_KINDS: Final = range(1, 5)
_BEGINNINGS: Final = (1, 2)  # kinds of fragments in which a record begins: the others hold what a client may have sent


class _Mark(NamedTuple):
    """The log with this number, and all before, were synced up to this many bytes of it."""

    number: int
    size_bytes: int


def prepare(directory: Path) -> str | None:
    """As `prepare_logs`, and cut off what was never synced where that has holes; what was cut, for people to read."""
    try:
        prepare_logs(directory)
    except DamageError:
        cut = cut_unsynced(directory)
        if cut is None:
            raise
        prepare_logs(directory)
        return cut
    return None


def cut_unsynced(directory: Path) -> str | None:
    """End the log ahead of its first damage, when that was never synced; None, and nothing is done, when it was, when
    nobody knows, or when there is none. O(bytes), about 0.1 µs each."""
    try:
        with locked(directory):
            return _cut(log_paths(directory))
    except OSError as error:
        raise JournalError(f"cannot read the journal in {directory}: {error.strerror}") from error


def _cut(paths: list[Path]) -> str | None:
    mark = _highest_mark(paths)
    if mark is None:
        return None
    expected: int | None = None
    for index, path in enumerate(paths):
        number = int(path.stem)
        synced = mark.size_bytes if number == mark.number else 0
        with _mapped(path) as data:
            try:
                expected = end_of_log(data, expected, 0).next_sequence
                continue
            except DamageError as damage:
                if number < mark.number or damage.reach <= synced:
                    return None
                keep_bytes = damage.keep_bytes
            lost_bytes = len(data) - keep_bytes
        lost_bytes += sum(later.stat().st_size for later in paths[index + 1 :])
        for each, size in [(path, keep_bytes), *((later, 0) for later in paths[index + 1 :])]:
            with each.open("r+b") as file:
                file.truncate(size)
        return (
            f"{path}: {lost_bytes} bytes from byte {keep_bytes} on had holes and are dropped; they were never synced,"
            " so the machine must have failed"
        )
    return None


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[LogData]:
    if not path.stat().st_size:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _highest_mark(paths: list[Path]) -> _Mark | None:
    """The highest one in all logs that is whole."""
    highest: _Mark | None = None
    for path in paths:
        with _mapped(path) as data:
            found = sorted(_marks(data), reverse=True)
            whole = next((mark for mark, start, end in found if is_whole(data, start, end)), None)
            if whole is not None and (highest is None or whole > highest):
                highest = whole
    return highest


def _marks(data: LogData) -> Iterator[tuple[_Mark, int, int]]:
    """Marks, with the fragment that each is in, of which the CRC is still to be looked at."""
    for start, end in _fragments(data):
        body = start + HEADER.size
        if (
            data[body - 1] in _BEGINNINGS
            and end - body >= _MARK_BYTES
            and data[body + _BATCH_BYTES : body + _BATCH_BYTES + len(_PREFIX)] == _PREFIX
        ):
            yield _Mark(*_POSITION.unpack_from(data, body + _BATCH_BYTES + len(_PREFIX))), start, end


def _fragments(data: LogData) -> Iterator[tuple[int, int]]:
    """Where fragments begin and end, behind damage too."""
    position = 0
    while position + HEADER.size <= len(data):
        block_end = min(position - position % BLOCK_BYTES + BLOCK_BYTES, len(data))
        end = _fragment_end(data, position, block_end)
        if end is None:
            position = next(
                (p for p in range(position + 1, block_end - HEADER.size) if _is_fragment(data, p, block_end)), block_end
            )
        else:
            yield position, end
            position = end


def _fragment_end(data: LogData, position: int, block_end: int) -> int | None:
    if position + HEADER.size > block_end:
        return None
    _, length, kind = HEADER.unpack_from(data, position)
    end = int(position + HEADER.size + length)
    return end if kind in _KINDS and end <= block_end else None


def _is_fragment(data: LogData, position: int, block_end: int) -> bool:
    end = _fragment_end(data, position, block_end)
    return end is not None and end > position + HEADER.size and is_whole(data, position, end)
