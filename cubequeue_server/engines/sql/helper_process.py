"""The process that parses and evaluates SELECTs, as the server sees it: started, talked to in frames, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cubequeue_server.engines.sql.frames import HEAD, READY

_ROOT: Final = str(Path(__file__).resolve().parents[3])
_MODULE: Final = "cubequeue_server.engines.sql.helper.serving"
_COMMAND: Final = (
    f"import sys; numbers = map(int, sys.argv[1:4]); sys.path[:] = sys.argv[4:]; from {_MODULE} import serve;"
    " serve(*numbers)"
)
_PIECE_BYTES: Final = 256 << 10
_MAX_FRAME_BYTES: Final = 32 << 20
_START_LIMIT_S: Final = 30.0


class HelperProcess:
    """One such process. `on_exit` is called on the loop when it has ended, for whatever reason.

    `is_busy` is for whoever talks to it: a process that is busy and is not talked to any more has to be ended.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_exit: Callable[[HelperProcess], None],
    ) -> None:
        self.is_busy = False
        self.exited = asyncio.Event()
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._wait, name="select-helper", daemon=True).start()

    @classmethod
    async def start(cls, max_bytes: int, max_rows: int, on_exit: Callable[[HelperProcess], None]) -> HelperProcess:
        """Start one, 0.2 s, off the loop. Raises OSError, EOFError and TimeoutError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.to_thread(_spawn, theirs.fileno(), max_bytes, max_rows)
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_PIECE_BYTES)
        helper = cls(process, reader, writer, on_exit)
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                kind, _ = await helper.receive()
            assert kind == READY
        except BaseException:
            helper.end()
            raise
        return helper

    async def send(self, *parts: bytes) -> None:
        """Send frames, whole or in parts, and wait while too much has not been taken; to one that is gone, nothing."""
        if sum(map(len, parts)) <= 2 * _PIECE_BYTES:
            self._writer.write(b"".join(parts))
        else:
            for part in parts:
                self._writer.write(part)
        with contextlib.suppress(ConnectionError):  # `receive` tells it
            await self._writer.drain()

    async def receive(self) -> tuple[bytes, bytes | bytearray]:
        """The next frame. Raises EOFError when the process has ended, ConnectionError when it speaks nonsense."""
        kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
        if length > _MAX_FRAME_BYTES:
            raise ConnectionError
        if length < _PIECE_BYTES:
            return kind, await self._reader.readexactly(length)
        content = bytearray()  # in pieces: each is copied, one a turn of the loop
        while len(content) < length:
            piece = await self._reader.read(min(_PIECE_BYTES, length - len(content)))
            if not piece:
                raise EOFError
            content += piece
        return kind, content

    def end(self) -> None:
        """End it at once. O(1)."""
        self._process.kill()
        self._writer.transport.abort()

    @property
    def status(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _wait(self) -> None:
        """In a thread: until the process has ended, which leaves no zombie then."""
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._note_exit)

    def _note_exit(self) -> None:
        self.exited.set()
        self._on_exit(self)


def _spawn(*numbers: int) -> subprocess.Popen[bytes]:
    """The process, which inherits the first of the numbers."""
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    # What the server can import the helper can: an editable install, a wheel, a folder on PYTHONPATH.
    path = dict.fromkeys([_ROOT, *filter(os.path.isabs, sys.path)])
    return subprocess.Popen(  # noqa: S603  # our own module, our own interpreter
        [sys.executable, *options, "-c", _COMMAND, *map(str, numbers), *path],
        pass_fds=numbers[:1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the server, which ends it
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # its address space is limited
    )
