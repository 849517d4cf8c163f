"""The database itself: what it says when it is busy is no failure."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storage.journal.database import Database
from storage.journal.errors import BusyError, JournalError

MAX_ROWS = 20_000
MAX_RETRIES = 5_000


class _Saying:
    """A database that answers every write with an error."""

    def __init__(self, text: str) -> None:
        self._text = text

    def write(self, *_: object) -> None:
        raise Exception(self._text)  # as rocksdict does

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Result incomplete: Write stall", BusyError),
        ("IO error: No space left on device: While appending to file: 000004.log", JournalError),
        ("Corruption: block checksum mismatch", JournalError),
    ],
)
def test_a_stall_is_no_failed_write(text: str, kind: type[JournalError], tmp_path: Path) -> None:
    database = Database(tmp_path / "journal")
    database.close()
    database._db = _Saying(text)  # type: ignore[assignment]  # stands in for RocksDB
    with pytest.raises(JournalError) as raised:
        database.put(b"key", b"value")
    assert type(raised.value) is kind


def test_its_own_threads_leave_the_processor_to_requests(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal")
    nice: dict[str, int] = {}
    for thread in Path("/proc/self/task").iterdir():
        nice[(thread / "comm").read_text().strip()] = os.getpriority(os.PRIO_PROCESS, int(thread.name))
    database.close()
    assert nice["rocksdb:high"] >= 5
    assert nice["rocksdb:low"] >= 10
    assert os.getpriority(os.PRIO_PROCESS, 0) < nice["rocksdb:high"]


@pytest.mark.soak
def test_more_than_it_can_take_makes_it_busy_and_then_it_takes_it(tmp_path: Path) -> None:
    """Whether it comes to a stall depends on the disk: so many rows are enough for one that writes 1 GB a second."""
    database = Database(tmp_path / "journal")
    value = os.urandom(65_536)

    def fill() -> None:
        for row in range(MAX_ROWS):
            database.put(b"%012d" % row, value)

    with pytest.raises(BusyError):
        fill()
    for _ in range(MAX_RETRIES):
        try:
            database.put(b"again", value)
            break
        except BusyError:
            time.sleep(0.002)
    assert database.get(b"again") == value
    database.close()
