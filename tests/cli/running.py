"""A real `cubequeue serve` as a child process, on ports that the kernel chooses."""

from __future__ import annotations

import http.client
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENTRY_POINT = Path(sys.executable).with_name("cubequeue")
TIMEOUT_S = 30.0


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings, and with the given ones; no MySQL port unless they ask for one."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("CUBESTORE_", "CUBEQUEUE_", "CUBEJS_"))
    }
    return {**kept, "CUBESTORE_PORT": "0", **variables}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        [ENTRY_POINT, *arguments],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@dataclass
class Running:
    """A server that listens; `line` is what it printed about that."""

    process: subprocess.Popen[str]
    line: str

    @property
    def ws(self) -> tuple[str, int]:
        return self._address("ws")

    @property
    def status(self) -> tuple[str, int]:
        return self._address("status")

    @property
    def mysql(self) -> tuple[str, int]:
        return self._address("mysql")

    def _address(self, name: str) -> tuple[str, int]:
        words = dict(word.split("=", 1) for word in self.line.split() if "=" in word)
        host, port = words[name].rsplit(":", 1)
        return host, int(port)

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.status, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def end(self, signal_number: int) -> tuple[int, float, str]:
        """Send a signal; the exit code, the seconds it took, and all of stderr."""
        start = time.monotonic()
        self.process.send_signal(signal_number)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, time.monotonic() - start, errors


# The log line of a server whose cache begins empty.
GUARD = "marks of pre-aggregations may be missing: Cube is kept from dropping tables"


@contextmanager
def serving(*arguments: str, command: Sequence[Any] = (ENTRY_POINT,), **variables: str) -> Iterator[Running]:
    """A server on 127.0.0.1 and chosen ports, unless the arguments say otherwise; killed at the end if it lives."""
    flags = ["--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:auto", *arguments]
    process = subprocess.Popen(
        [*command, "serve", *flags],
        env=clean_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Running(process, first_line(process))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(TIMEOUT_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def first_line(process: subprocess.Popen[str]) -> str:
    """The first line of stdout, or a failed assertion with what stderr said."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(TIMEOUT_S), "the server printed nothing"
    line = process.stdout.readline()
    assert line, f"the server ended: {process.communicate(timeout=TIMEOUT_S)[1]}"
    return line
