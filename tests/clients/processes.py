"""What the tests with real clients start: one cubequeue server, and Node processes that drive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from tests.clients.install import GROUPS, is_installed, missing_node
from tests.needed import require

JS = Path(__file__).resolve().parent / "js"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10

# A test tells its client everything; what the developer has set for other purposes must not reach it.
_INHERITED = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE", "NODE_"))}


class Listener(Protocol):
    """What a client can be pointed at: a server, or a proxy before it."""

    @property
    def port(self) -> int: ...


class Cubequeue:
    """`cubequeue serve` on a port of this machine, in memory, stopped by its process id at the end."""

    def __init__(self, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.port = 0
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.terminate()

    def start(self) -> None:
        """Start, on the port it had before if there was one, and wait for the line that it listens."""
        assert self._process is None
        environment = {
            **_INHERITED,
            "CUBESTORE_HTTP_BIND_ADDR": f"127.0.0.1:{self.port or 'auto'}",
            "CUBESTORE_STATUS_PORT": "0",
            "CUBESTORE_PORT": "0",
            **self._settings,
        }
        command = [str(Path(sys.executable).parent / "cubequeue"), "serve"]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        self.port = self._wait_for_port(self._process)

    def _wait_for_port(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                if " listening ws=" in line:
                    return int(line.split(" ws=")[1].split()[0].rsplit(":", 1)[1])
        finally:
            watchdog.cancel()
        raise AssertionError(f"cubequeue does not listen:\n{self.log.read_text()}")

    def terminate(self) -> None:
        """Stop in order, as SIGTERM asks."""
        assert self._end(signal.SIGTERM) == 0, self.log.read_text()

    def kill(self) -> None:
        """Die at once, as of SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None
        assert process.poll() is None, f"cubequeue has ended by itself:\n{self.log.read_text()}"
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        return process.returncode

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that tell of an error in the server itself."""
        return [line for line in self.log.read_text().splitlines() if '"level": "error"' in line or "Traceback" in line]


def package_folder(group: str, version: str) -> Path:
    """The installed packages of one generation; the test skips without them, and fails where CI=true."""
    folder = GROUPS[group] / version
    lacking = missing_node() or (None if is_installed(folder) else f"the packages of {folder.name}: make {group}")
    require(lacking is None, str(lacking))
    return folder


class NodeProcess:
    """A script of tests/clients/js that talks in JSON lines; bounded in time, ended by its process id."""

    def __init__(
        self,
        server: Listener,
        packages: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        limit_s: float,
    ) -> None:
        self._process = subprocess.Popen(
            ["node", *arguments],
            cwd=JS,
            env={
                **_INHERITED,
                "CLIENT_FOLDER": str(packages),
                "CUBEJS_CUBESTORE_HOST": "127.0.0.1",
                "CUBEJS_CUBESTORE_PORT": str(server.port),
                "CUBEJS_TELEMETRY": "false",
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._limit = threading.Timer(limit_s, self._process.kill)
        self._limit.start()
        self._errors: list[str] = []
        # Read on its own, so that a client that writes much there cannot block.
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its lines until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                yield json.loads(line)

    def expect(self, key: str) -> dict[str, Any]:
        """The next line, which has this key."""
        line = next(self.lines(), None)
        assert line is not None, f"no line {key!r}: {self.errors}"
        assert key in line, line
        return line

    def go_on(self) -> None:
        """Give it the line it waits for."""
        self.say("")

    def say(self, line: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    @property
    def errors(self) -> str:
        """What it wrote to its error stream; complete once its lines have ended."""
        time.sleep(0)
        return "".join(self._errors)

    def exit_code(self) -> int:
        """Wait for its end."""
        return self._process.wait()
