"""The embedded database under the journal: RocksDB, through rocksdict. Nothing else in the project knows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from storage.journal.errors import BusyError, JournalError
from storage.journal.log_files import prepare
from storage.journal.recorder import Group
from storage.journal.rows import SYNCED_KEY

_MIB: Final = 1 << 20
# RocksDB gathers so much in memory and in one log before it begins a new one. `begin_log` is due somewhat earlier: what
# a row takes beyond its bytes is estimated.
_BUFFER_BYTES: Final = 16 * _MIB
_LOG_DUE_BYTES: Final = 12 * _MIB
_ROW_OVERHEAD_BYTES: Final = 64
# Its threads write tables and merge them: a quarter and a tenth of a processor that requests keep busy.
_NICE: Final = {"rocksdb:high": 5, "rocksdb:low": 10}
_TRIAL_NAME: Final = "trial.dbtmp"  # RocksDB deletes such, should one be left
_TRIAL_BYTES: Final = 2 * _MIB
_CONFIG_NAME: Final = "rocksdict-config.json"  # rocksdict's own, beside the database's files
RESTORE_NAME: Final = "unfinished-restore"  # a file that a restore makes first and deletes last


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The default would silently drop what follows damage in the middle; this one tolerates a torn tail alone
    # (nearly: see `log_files`).
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_max_total_wal_size(64 * _MIB)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 * _MIB)
    options.set_stats_dump_period_sec(0)
    options.set_max_open_files(256)
    options.set_is_fd_close_on_exec(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    # Rows live for minutes: a file that does little but delete is compacted before its level is full. Half of what a
    # life cycle writes are deletions: were that enough, every file would be compacted as soon as it is written.
    options.add_compact_on_deletion_collector_factory(16_384, 14_000, 0.9)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(4 * _MIB))
    options.set_block_based_table_factory(table)
    return options


class Database:
    """Rows by key, in the order of their keys, in a directory. Groups are written whole or not at all.

    A write returns when the operating system has it (it survives a kill of the process), not when the disk has. A
    write that finds the log full begins a new one first, which may wait for the disk: when `is_log_due`, `begin_log`
    does that ahead of it, in a thread. Two processes cannot have one directory open. Every method may raise
    `JournalError`.
    """

    def __init__(
        self, directory: Path, *, read_only: bool = False, look_first: bool = False, is_restore: bool = False
    ) -> None:
        """Open, and make the directory if there is none.

        With `look_first` what is there is opened for reading until `open_for_writing`: opening for writing changes
        files, which is not to happen to a directory that is refused for what it holds. One with an unfinished restore
        is refused unless `is_restore`: it may look like that of a first start.
        """
        self.directory = directory
        self.cut: str | None = None  # what the log had lost when the machine failed
        # A stall of the database would stop all requests: be told instead, and try again.
        self._write_options = WriteOptions()
        self._write_options.no_slowdown = True
        self._log_bytes = 0  # about as much was written since the log was begun
        self.is_log_due = False  # whether `begin_log` is to be called before much more is written
        if not read_only:
            _refuse_foreign(directory, is_restore=is_restore)
            self.cut = prepare(directory)
        self._is_read_only = read_only or (look_first and (directory / "CURRENT").exists())
        if self._is_read_only:
            self._refuse_families()
        try:
            self._db = self._open(self._is_read_only)
        except JournalError:
            # RocksDB checks every record; what it complains of may never have been synced.
            self.cut = None if read_only else prepare(directory, verify=True)
            if self.cut is None:
                raise
            self._db = self._open(self._is_read_only)

    def _refuse_families(self) -> None:
        with _errors(f"cannot open the journal in {self.directory}"):
            families = Rdict.list_cf(str(self.directory), _options())
        if families != ["default"]:
            raise JournalError(f"the database in {self.directory} is not cubequeue's journal")

    def open_for_writing(self) -> bool:
        """From now on it can be written. Whether it still holds what could be read before."""
        if not self._is_read_only:
            return True
        with _errors(f"cannot open the journal in {self.directory}"):
            seen = self._db.latest_sequence_number()
            self._db.close()
        self._db = self._open(read_only=False)
        self._is_read_only = False
        with _errors(f"cannot open the journal in {self.directory}"):
            return bool(self._db.latest_sequence_number() == seen)

    def _open(self, read_only: bool) -> Rdict:
        access = AccessType.read_only() if read_only else AccessType.read_write()
        with _errors(f"cannot open the journal in {self.directory}"):
            if not read_only:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds queries and their results
            database = Rdict(str(self.directory), _options(), access_type=access)
        _let_requests_go_first()
        return database

    def try_disk(self) -> None:
        """See whether a file can be written, with some room to spare: trying the database itself takes it a second."""
        file = self.directory / _TRIAL_NAME
        try:
            try:
                file.write_bytes(bytes(_TRIAL_BYTES))
            finally:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(f"cannot write in {self.directory}: {error.strerror}") from error

    def reopen(self) -> None:
        """Close and open again, which is how the database gets over a failed write. Reads what is committed."""
        with contextlib.suppress(JournalError):
            self.close()
        prepare(self.directory)
        self._db = self._open(read_only=False)
        self._log_bytes = 0
        self.is_log_due = False

    def wait_when_busy(self) -> None:
        """From now on writes wait for a busy database instead of raising `BusyError`."""
        self._write_options.no_slowdown = False

    def begin_log(self) -> None:
        """Begin a new log, and have what the old one holds written to the files. Nothing may be written meanwhile.

        The file system may let a new file wait for its own journal: tens of milliseconds while others sync.
        """
        with _errors(f"cannot write to the journal in {self.directory}"):
            self._db.flush(False)
        self._log_bytes = 0
        self.is_log_due = False

    def write(self, group: Group) -> None:
        """Commit the rows of a group but its large texts. O(rows), about 1 µs each, and a copy of their bytes."""
        batch = WriteBatch(raw_mode=True)
        if group.mark:
            batch.put(SYNCED_KEY, group.mark)  # ahead of all others: there it is looked for
        for kind in group.ranges:
            batch.delete_range(kind, _after(kind))
        delete = batch.delete
        for key in group.deletes:
            delete(key)
        put = batch.put
        for key, value in group.puts:
            put(key, value)
        self._write(batch)

    def put(self, key: bytes, value: bytes) -> None:
        """Commit one row."""
        batch = WriteBatch(raw_mode=True)
        batch.put(key, value)
        self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        self._log_bytes += batch.size_in_bytes() + _ROW_OVERHEAD_BYTES * batch.len()
        self.is_log_due = self._log_bytes >= _LOG_DUE_BYTES
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            if "incomplete" in str(error).lower():  # "Result incomplete: Write stall"
                raise BusyError(str(error)) from error
            raise JournalError(f"cannot write to the journal in {self.directory}: {_reason(error)}") from error

    def get(self, key: bytes) -> bytes | None:
        """The value of one row."""
        with _errors(f"cannot read the journal in {self.directory}"):
            value: bytes | None = self._db.get(key)
            return value

    def rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose key begins so, in order. About 2 µs a row, and a copy of its bytes."""
        options = ReadOptions()
        if kind:
            options.set_iterate_upper_bound(_after(kind))
        options.set_verify_checksums(True)
        with _errors(f"cannot read the journal in {self.directory}"):
            iterator = self._db.iter(options)
            iterator.seek(kind)
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.next()
            iterator.status()  # raises what ended the reading early

    def sync(self) -> None:
        """Have everything on the disk. Blocks for as long as that takes."""
        with _errors(f"cannot sync the journal in {self.directory}"):
            self._db.flush_wal(sync=True)

    def compact(self) -> None:
        """Write the files anew without what is dead. Blocks for seconds; other threads may write meanwhile."""
        with _errors(f"cannot compact the journal in {self.directory}"):
            self._db.compact_range(None, None)

    def stop_compacting(self) -> None:
        """Have `compact` in another thread fail soon. Nothing can be written after it."""
        self._db.cancel_all_background(False)

    def size_bytes(self) -> int:
        """What the directory takes on the disk. One system call a file."""
        total = 0
        with contextlib.suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # deleted meanwhile
                    total += entry.stat().st_size
        return total

    def close(self) -> None:
        """Let go of the directory."""
        with _errors(f"cannot close the journal in {self.directory}"):
            self._db.close()


def _let_requests_go_first() -> None:
    """Where a processor is short, RocksDB's own threads have what is left of it, and enough to keep up."""
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            name = (thread / "comm").read_text().strip()
            if name in _NICE:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _NICE[name])


def _after(kind: bytes) -> bytes:
    """The first key behind all that begin so."""
    return kind[:-1] + bytes([kind[-1] + 1])


def _refuse_foreign(directory: Path, *, is_restore: bool) -> None:
    """Nothing is written into a directory with files that are not a journal's."""
    try:
        names = {entry.name for entry in directory.iterdir()} - {_CONFIG_NAME, "lost+found"}
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"cannot read {directory}: {error.strerror}") from error
    if RESTORE_NAME in names and not is_restore:
        raise JournalError(f"a restore into {directory} was not finished: delete what is in it and restore again")
    names.discard(RESTORE_NAME)
    _refuse_other_config(directory)
    # `LOCK` and the log of RocksDB alone are what a first start leaves that was stopped at once.
    if names and "CURRENT" not in names and not names <= {"LOCK", "LOG", "IDENTITY"} | _stale(names):
        raise JournalError(f"{directory} holds files that are not cubequeue's journal, such as {min(names)}")


def _refuse_other_config(directory: Path) -> None:
    """rocksdict notes how it was told to treat keys, and would note it anew when it opens, for reading too."""
    try:
        config = (directory / _CONFIG_NAME).read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"cannot read {directory}: {error.strerror}") from error
    if config and b'"raw_mode":true' not in config.replace(b" ", b""):
        raise JournalError(f"the database in {directory} is not cubequeue's journal")


def _stale(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(("LOG.old", "MANIFEST-", "OPTIONS-")) or name.endswith(".dbtmp")}


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except (GeneratorExit, JournalError):
        raise
    except Exception as error:
        raise JournalError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "lock" in text.lower() and "LOCK" in text:
        return "another process has it open"
    return text
