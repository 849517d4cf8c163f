"""The journal's directory stays small however much goes through it, and what has expired is gone from it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from cubequeue_server.engines.stores import JOURNAL_FOLDER
from storage.asking import ANYBODY
from storage.journal import rows
from storage.journal.database import Database
from storage.journal.store import JournaledStore
from storage.limits import HistoryLimits, QueueLimits
from storage.vocabulary import (
    CacheSet,
    CachestoreAction,
    QueueAck,
    QueueAdd,
    QueueHeartbeat,
    QueueResult,
    QueueRetrieve,
    Statement,
    SysCachestore,
)
from tests.cli.running import Running, serving
from tests.storage.journal.restarting import Turns, opened

MIB = 1 << 20
START_MS = 1_764_000_000_000
CYCLE_MS = 1_000
# Files that are being merged are there twice. Beyond: the log of up to 64 MiB, and files that wait to be merged, which
# are more when writers and mergers fight for the processor.
MOST_BYTES_A_LIVE_BYTE = 2
MOST_BYTES = 96 * MIB
MOST_BYTES_FOR_LONG = 256 * MIB
MOST_BYTES_EMPTY = 4 * MIB  # RocksDB's own log, of which it keeps two files of 1 MiB, and the list of its files


class Churn:
    """Life cycles and cache entries, one a second, for texts that do not compress."""

    def __init__(self, directory: Path) -> None:
        self._turns = Turns()
        self._random = Random(directory.name)
        self._database = Database(directory)
        limits = QueueLimits(history=HistoryLimits(max_bytes=MIB))  # it would stay for a day
        self.store: JournaledStore = opened(self._database, self._turns, queue=limits, now_ms=START_MS)  # type: ignore[arg-type]
        self._now_ms = START_MS
        self._messages = 0
        self.written_bytes = 0

    def ask(self, statement: Statement) -> None:
        self._messages += 1
        self.store.execute(statement, ANYBODY, (b"", b"client", self._messages), self._now_ms)

    def text(self) -> bytes:
        text = self._random.randbytes(self._random.choice([2_000, 10_000, 100_000]))
        self.written_bytes += len(text)
        return text

    def cycle(self, number: int) -> None:
        path = b"q:%d" % number
        self.ask(QueueAdd(path, self.text()))
        self.ask(QueueRetrieve(path, 8))
        self.ask(QueueHeartbeat(path))
        self.ask(QueueAck(path, self.text()))
        self.ask(QueueResult(path))
        self.ask(CacheSet(b"c:%d" % number, self.text(), ttl_s=30))
        self.let_pass(CYCLE_MS)

    def let_pass(self, time_ms: int) -> None:
        self._now_ms += time_ms
        self.store.tick(self._now_ms, 1_000)
        self._turns.all()

    @property
    def live_bytes(self) -> int:
        gauges = self.store.gauges()
        return sum(gauges[name] for name in ("queue_bytes", "queue_result_bytes", "cache_bytes", "answer_bytes"))

    @property
    def disk_bytes(self) -> int:
        return self._database.size_bytes()

    def kinds(self) -> set[bytes]:
        """The kinds of rows that are on the disk."""
        return {key[:1] for key, _ in self._database.rows(b"")}

    def close(self) -> None:
        self.store.close()


def gauge(server: Running) -> int:
    lines = server.get("/metrics")[1].splitlines()
    return int(float(next(line for line in lines if line.startswith(b"cubequeue_journal_bytes ")).split()[1]))


def check_disk_use(directory: Path, cycles: int, most_bytes: int) -> None:
    churn = Churn(directory / JOURNAL_FOLDER)
    for number in range(cycles):
        churn.cycle(number)
        if number % 50 == 0:
            most = MOST_BYTES_A_LIVE_BYTE * churn.live_bytes + most_bytes
            assert churn.disk_bytes < most, f"after {churn.written_bytes} bytes, {churn.live_bytes} of which live"
    assert churn.written_bytes > most + 10 * MIB, "too little was written to show anything"
    churn.let_pass(5_000)  # the gauge is measured so often
    assert churn.store.gauges()["journal_bytes"] == pytest.approx(churn.disk_bytes, rel=0.9)
    for _ in range(100):
        churn.let_pass(20_000)
    assert churn.live_bytes == 0
    assert churn.kinds() <= {rows.META, rows.MINUTE, rows.BLOCK}
    churn.ask(SysCachestore(CachestoreAction.COMPACTION))
    assert churn.disk_bytes < MOST_BYTES_EMPTY
    churn.cycle(cycles)
    churn.close()


def check_the_gauge(directory: Path) -> None:
    """What /metrics tells of a directory is what is in it."""
    folder = directory / JOURNAL_FOLDER
    with serving("--data-dir", str(directory)) as server:
        shown, deadline_s = 0, time.monotonic() + 10
        while not shown and time.monotonic() < deadline_s:
            shown = gauge(server)
        assert shown == pytest.approx(sum(path.stat().st_size for path in folder.iterdir()), rel=0.5)


def test_the_directory_stays_small_and_what_expired_goes(tmp_path: Path) -> None:
    check_disk_use(tmp_path, 1_800, MOST_BYTES)
    check_the_gauge(tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_soak_the_directory_stays_small_for_long(tmp_path: Path) -> None:
    check_disk_use(tmp_path, 60_000, MOST_BYTES_FOR_LONG)
