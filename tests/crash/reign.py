"""One directory and one port, and the server processes that follow each other there, each killed by the next."""

from __future__ import annotations

import asyncio
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.cli.running import ENTRY_POINT, clean_environment
from tests.server.client import Address

START_S = 60.0
END_S = 30.0
# Below what the kernel gives to others while no server is there.
PORTS = range(20_000, 32_000)


def free_port(random: Random) -> int:
    """A port that nobody listens at now, nor by chance later."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Reign:
    """Starts a server, and ends it. What it wrote to stderr stays in a file."""

    def __init__(self, directory: Path, flags: Sequence[str], random: Random) -> None:
        self.address: Address = ("127.0.0.1", free_port(random))
        self.status: Address = ("127.0.0.1", 0)
        self.starts = 0
        self._stderr = directory.with_name(directory.name + ".stderr")
        self._command: list[str | Path] = [
            ENTRY_POINT,
            "serve",
            "--http-bind",
            f"127.0.0.1:{self.address[1]}",
            "--status-bind",
            "127.0.0.1:auto",
            "--data-dir",
            directory,
            "--log-level",
            "warn",
            *flags,
        ]
        self._process: Process | None = None

    async def start(self) -> None:
        """Begin a start."""
        assert self._process is None
        self.starts += 1
        with self._stderr.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=clean_environment(), stdout=asyncio.subprocess.PIPE, stderr=stderr
            )

    async def listening(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        assert b"listening" in line, f"start {self.starts} failed: {self._stderr.read_text()[-2_000:]}"
        host, port = line.decode().split("status=")[1].split()[0].rsplit(":", 1)
        self.status = host, int(port)

    async def end(self, signal_number: int = signal.SIGKILL) -> None:
        """End it; a failed assertion when it had ended by itself, or does not end as it should."""
        process, self._process = self._process, None
        assert process is not None
        assert process.returncode is None, f"it ended by itself: {self._stderr.read_text()[-2_000:]}"
        process.send_signal(signal_number)
        code = await asyncio.wait_for(process.wait(), END_S)
        assert code == (0 if signal_number == signal.SIGTERM else -signal_number)

    async def abandon(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
