"""A failing machine leaves any part of what was never synced: that is the end of a log; damage ahead of it is not.

A journal is written by hand, group by group, and its syncs are told with true positions; then pages of its log are
replaced by zeros or noise, as a file system leaves them that writes pages in any order.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
from pathlib import Path
from random import Random

import pytest

from storage.asking import ANYBODY
from storage.journal import rows
from storage.journal.database import Database
from storage.journal.errors import JournalError
from storage.journal.store import JournaledStore
from storage.vocabulary import QueueAdd
from tests.audit import audit
from tests.cli.running import run, serving
from tests.failures.faults import sync_helper_of
from tests.failures.history import History
from tests.storage.journal.restarting import Turns, opened

GROUPS = 60
SYNCED_GROUPS = 30
PAGE = 4096


class Written:
    """A directory as the end of its machine leaves it, if that wrote all. `ends[n]`: the length of n groups."""

    def __init__(self, directory: Path, *, marks_later: bool = True, value_bytes: int = 3_000) -> None:
        turns = Turns()
        database = Database(directory)
        store: JournaledStore = opened(database, turns, sync=lambda _: None)  # type: ignore[arg-type]  # the real one
        turns.all()
        self.log = max(directory.glob("*.log"), key=lambda path: int(path.stem))
        self.ends = [self.log.stat().st_size]
        for number in range(GROUPS):
            store.execute(QueueAdd(b"q:%d" % number, Random(number).randbytes(value_bytes)), ANYBODY, None, 1_000)
            turns.all()
            self.ends.append(self.log.stat().st_size)
            if number + 1 == SYNCED_GROUPS:
                self.synced_bytes = self.ends[-1]
                store.synced(store._recorder.seq, struct.pack(">QQ", int(self.log.stem), self.synced_bytes))
                if not marks_later:
                    store.tick(2_000, 10)  # it is idle from here on
                    self.ends[-1] = self.log.stat().st_size
                    break
        self.directory = directory.with_name("as-left")
        shutil.copytree(directory, self.directory)
        database.close()
        self.content = (self.directory / self.log.name).read_bytes()

    def damaged(self, scratch: Path, start: int, piece: bytes) -> Path:
        """A copy with this in its log."""
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(self.directory, scratch)
        content = self.content[:start] + piece + self.content[start + len(piece) :]
        (scratch / self.log.name).write_bytes(content)
        return scratch

    def groups_ahead_of(self, position: int) -> int:
        return max(number for number, end in enumerate(self.ends) if end <= position)


def items_after_start(directory: Path) -> set[int]:
    database = Database(directory, look_first=True)
    try:
        store = opened(database, Turns())  # type: ignore[arg-type]  # the real one
        audit(store)
        return {int(item.path[2:]) for item in store._memory.queue.items.by_id.values()}
    finally:
        database.close()


def holes(written: Written, random: Random) -> list[tuple[int, bytes]]:
    """Pages behind what was synced: of zeros, of noise, at any page and within."""
    found = []
    for number in range(24):
        start = random.randrange(written.synced_bytes, len(written.content) - PAGE)
        if number % 2:
            start = max(start // PAGE * PAGE, written.synced_bytes)
        piece = bytes(PAGE) if number % 3 else random.randbytes(random.choice([16, 512, PAGE]))
        found.append((start, piece))
    return found


@pytest.mark.parametrize("value_bytes", [3_000, 200, 90_000], ids=["pages", "small", "large"])
def test_regression_a_hole_in_what_was_never_synced_is_the_end_of_the_log(tmp_path: Path, value_bytes: int) -> None:
    written = Written(tmp_path / "journal", value_bytes=value_bytes)
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    for start, piece in holes(written, Random(seed)):
        directory = written.damaged(tmp_path / "scratch", start, piece)
        items = items_after_start(directory)
        assert items == set(range(written.groups_ahead_of(start))), (start, seed)
        assert items >= set(range(SYNCED_GROUPS))
        assert items_after_start(directory) == items


def test_regression_a_hole_with_no_whole_record_behind_is_the_end_of_the_log(tmp_path: Path) -> None:
    written = Written(tmp_path / "journal", value_bytes=200)
    start = written.ends[-5] + 40  # within a record; the rest of the last record is behind the hole
    directory = written.damaged(tmp_path / "scratch", start, bytes(written.ends[-1] - 60 - start))
    assert items_after_start(directory) == set(range(GROUPS - 4))


def refuses(directory: Path) -> None:
    logs = {path.name: path.read_bytes() for path in directory.glob("*.log")}
    with pytest.raises(JournalError) as refusal:
        items_after_start(directory)
    assert "\n" not in str(refusal.value)
    assert {path.name: path.read_bytes() for path in directory.glob("*.log")} == logs


@pytest.mark.parametrize("marks_later", [True, False], ids=["groups follow", "idle since"])
def test_damage_in_what_was_synced_is_refused(marks_later: bool, tmp_path: Path) -> None:
    written = Written(tmp_path / "journal", marks_later=marks_later)
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    random = Random(seed)
    for number in range(24):
        start = random.randrange(written.synced_bytes - PAGE)
        piece = bytes(PAGE) if number % 2 else random.randbytes(16)
        refuses(written.damaged(tmp_path / "scratch", start, piece))


def test_a_synced_part_and_a_hole_behind_it_damaged_both_is_refused(tmp_path: Path) -> None:
    written = Written(tmp_path / "journal")
    directory = written.damaged(tmp_path / "scratch", written.ends[50], bytes(PAGE))
    log = directory / written.log.name
    content = bytearray(log.read_bytes())
    content[written.ends[3] + 500] ^= 1
    log.write_bytes(content)
    refuses(directory)


def test_a_mark_in_a_payload_is_none(tmp_path: Path) -> None:
    """Whoever adds items must not decide what is synced."""
    database, turns = Database(tmp_path / "journal"), Turns()
    store = opened(database, turns)  # type: ignore[arg-type]  # the real one
    forged = b"\1\7" + rows.SYNCED_KEY + b"\x10" + bytes(16)
    for number in range(40):
        store.execute(QueueAdd(b"q:%d" % number, forged * 200), ANYBODY, None, 1_000)
        turns.all()
    copy = Path(shutil.copytree(tmp_path / "journal", tmp_path / "copy"))
    database.close()
    (log,) = copy.glob("*.log")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    refuses(copy)


def test_logs_behind_the_one_with_the_hole_are_dropped_with_it(tmp_path: Path) -> None:
    written = Written(tmp_path / "journal")
    directory = written.damaged(tmp_path / "scratch", written.ends[40] + 100, bytes(PAGE))
    log = directory / written.log.name
    content = log.read_bytes()
    later = directory / f"{int(written.log.stem) + 1:06d}.log"
    # The records of a log begin with a block: cut at one, the rest is a log of its own.
    block = (written.ends[50] // 32_768) * 32_768
    assert block > written.ends[40] + 100 + PAGE
    log.write_bytes(content[:block])
    later.write_bytes(content[block:])
    assert items_after_start(directory) == set(range(40))


def test_what_is_cut_is_told(tmp_path: Path) -> None:
    written = Written(tmp_path / "journal")
    directory = written.damaged(tmp_path / "scratch", written.ends[40], bytes(PAGE))
    lost = len(written.content) - written.ends[40]
    database = Database(directory, look_first=True)
    assert database.cut is not None
    assert f"{lost} bytes from byte {written.ends[40]} on had holes and are dropped" in database.cut
    database.close()


def test_a_real_server_after_a_power_loss(tmp_path: Path) -> None:
    history = History()
    with serving("--data-dir", str(tmp_path)) as server, history.on(server):
        for _ in range(20):
            assert history.add()
        assert history.rows("SYS CACHESTORE PERSIST") == []
        assert history.add()  # its group tells what is synced
        helper = sync_helper_of(server.process.pid)
        os.kill(helper, signal.SIGSTOP)  # nothing is synced from here on
        try:
            (log,) = (tmp_path / "cubequeue").glob("*.log")
            hole = log.stat().st_size
            for _ in range(20):
                assert history.add()
            server.process.kill()
            server.process.wait()
        finally:
            os.kill(helper, signal.SIGKILL)
    content = log.read_bytes()
    assert len(content) > hole + 2 * PAGE
    log.write_bytes(content[:hole] + bytes(PAGE) + content[hole + PAGE :])
    del history.acknowledged[21:]  # less than a second old
    with serving("--data-dir", str(tmp_path)) as server, history.on(server):
        history.check()
        errors = server.end(signal.SIGTERM)[2]
        assert "had holes and are dropped; they were never synced" in errors


def test_a_real_server_refuses_damage_in_what_was_synced(tmp_path: Path) -> None:
    history = History()
    with serving("--data-dir", str(tmp_path)) as server, history.on(server):
        for _ in range(20):
            assert history.add()
        assert history.rows("SYS CACHESTORE PERSIST") == []
        assert history.add()
        (log,) = (tmp_path / "cubequeue").glob("*.log")
        server.process.kill()
        server.process.wait()
    content = log.read_bytes()
    log.write_bytes(content[:PAGE] + bytes(PAGE) + content[2 * PAGE :])
    refused = run("serve", "--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:0", "--data-dir", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "restore the directory from a backup" in refused.stderr
