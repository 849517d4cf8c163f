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
    f"import sys; numbers = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3:]; from {_MODULE} import serve;"
    " serve(*numbers)"
)
_PIECE_BYTES: Final = 256 << 10
_MAX_FRAME_BYTES: Final = 32 << 20
_START_LIMIT_S: Final = 30.0


class HelperProcess:
    """One such process, from its start, which takes about 2 ms and raises OSError, to its end.

    It can be asked 0.2 s later. `is_busy` is true during a SELECT. `on_exit` is called on the loop after the end,
    whatever the cause.
    """

    def __init__(self, max_bytes: int, max_rows: int, on_exit: Callable[[HelperProcess], None]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _spawn(theirs, max_bytes, max_rows)
            except OSError:
                ours.close()
                raise
        self._connecting = asyncio.create_task(asyncio.open_unix_connection(sock=ours, limit=_PIECE_BYTES))
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.is_ready = self.is_busy = False
        self.pid = self._process.pid
        self.exited = asyncio.Event()
        threading.Thread(target=self._wait, name="select-helper", daemon=True).start()

    async def get_ready(self) -> None:
        """Wait until it can be asked. May be cancelled and called again. Raises OSError and EOFError."""
        self._reader, self._writer = await asyncio.shield(self._connecting)
        async with asyncio.timeout(_START_LIMIT_S):
            while not self.is_ready:
                self.is_ready = (await self.receive())[0] == READY

    async def send(self, *parts: bytes) -> None:
        """Send frames, whole or in parts, as fast as they are taken. After the end of the process it does nothing."""
        if self._writer.is_closing():  # `receive` raises
            return
        self._writer.writelines(parts)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> tuple[bytes, bytes | bytearray]:
        """The next frame. Raises EOFError when the process has ended, ConnectionError for an impossible frame."""
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
        """Kill it. O(1)."""
        self._process.kill()
        self._connecting.add_done_callback(_abort)

    @property
    def status(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _wait(self) -> None:
        """In a thread: wait for the end of the process, so that it leaves no zombie."""
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._note_exit)

    def _note_exit(self) -> None:
        self.exited.set()
        self._on_exit(self)


def _abort(connecting: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    connecting.result()[1].transport.abort()


def _spawn(channel: socket.socket, *numbers: int) -> subprocess.Popen[bytes]:
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    # The helper can import what the server can: from an editable install, a wheel, a folder on PYTHONPATH.
    path = dict.fromkeys([_ROOT, *filter(os.path.isabs, sys.path)])
    return subprocess.Popen(  # noqa: S603  # our own module, our own interpreter
        [sys.executable, *options, "-c", _COMMAND, *map(str, numbers), *path],
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the server, which ends it
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # its address space is limited
    )
