"""`cubequeue backup` and `cubequeue restore`: the journal as one compressed file, or through a pipe.

What is compressed is a SQLite database: `gunzip` gives one that any tool can look into.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cubequeue_server.commands.output import print_json, size
from cubequeue_server.engines.stores import JOURNAL_FOLDER
from storage.journal.backup import new_file, restore, write
from storage.journal.errors import JournalError

_LEVEL: Final = 3  # of compression: twice as quick as the default, some percent larger
_MAGIC: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 1 << 20
_TOLD_S: Final = 0.5


def run(arguments: argparse.Namespace, data_dir: str) -> int:
    """The exit code. Raises JournalError."""
    directory = Path(data_dir) / JOURNAL_FOLDER
    with _progress(arguments.command) as tell:
        if arguments.command == "restore":
            count = _restore(arguments.file, directory, tell)
            told: dict[str, object] = {"directory": str(directory), "rows": count}
            line = f"{directory}: {count} rows"
        elif arguments.file == "-":
            count = _to_pipe(directory, tell)
            told, line = {"rows": count}, f"{count} rows"
        else:
            file = Path(arguments.file)
            count = _to_file(directory, file, tell)
            bytes_ = file.stat().st_size
            told, line = {"file": str(file), "rows": count, "bytes": bytes_}, f"{file}: {count} rows, {size(bytes_)}"
    if arguments.json and arguments.file != "-":
        print_json(told)
    else:  # of a pipe, stdout is the backup
        print(line, file=sys.stderr if arguments.file == "-" else sys.stdout)
    return 0


def _to_file(directory: Path, file: Path, tell: Callable[[int], None]) -> int:
    with new_file(file) as partial, _scratch(file.parent) as plain:
        count = write(directory, plain, tell)
        with _errors(file), partial.open("wb") as target:
            _compress(plain, target)
        return count


def _to_pipe(directory: Path, tell: Callable[[int], None]) -> int:
    if sys.stdout.isatty():
        raise JournalError("a backup is not for a terminal: pipe it somewhere")
    with _scratch(_temporary(directory.parent)) as plain:
        count = write(directory, plain, tell)
        _compress(plain, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return count


def _compress(plain: Path, target: BinaryIO) -> None:
    with plain.open("rb") as source, gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as compressed:
        shutil.copyfileobj(source, compressed, _CHUNK_BYTES)


def _restore(name: str, directory: Path, tell: Callable[[int], None]) -> int:
    """A backup of either kind, compressed or plain."""
    if name != "-":
        file = Path(name)
        with _errors(file), file.open("rb") as start:
            is_compressed = start.read(len(_MAGIC)) == _MAGIC
        if not is_compressed:
            return restore(file, directory, tell)
    with _errors(directory):
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _scratch(directory.parent) as plain:
        with (
            _errors(Path(name)),
            _input(name) as source,
            gzip.GzipFile(fileobj=source) as decompressed,
            plain.open("wb") as target,
        ):
            shutil.copyfileobj(decompressed, target, _CHUNK_BYTES)
        return restore(plain, directory, tell)


def _input(name: str) -> BinaryIO:
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def _temporary(otherwise: Path) -> Path:
    """The folder for temporary files; in a container without any, the data directory."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return otherwise


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty file for its user alone, gone afterwards. The folder needs room for the whole backup."""
    with contextlib.ExitStack() as stack:
        with _errors(folder):
            name = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=".cubequeue-", suffix=".partial"))
        yield Path(name.name)


@contextlib.contextmanager
def _progress(command: str) -> Iterator[Callable[[int], None]]:
    """Rows so far, in one line of a terminal that is gone afterwards."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    start_s = told_s = time.monotonic()

    def tell(count: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= _TOLD_S:
            told_s = now_s
            print(f"\r{command}: {count} rows, {now_s - start_s:.0f} s\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _errors(file: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise JournalError(f"cannot use {file}: {getattr(error, 'strerror', None) or error}") from error
