"""A whole Cube API server of one version over SQLite, with its queue and cache on a cubequeue server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.clients.processes import Listener, package_folder

APP = Path(__file__).resolve().parent / "app"
SECRET = "only-for-this-test"
START_TIMEOUT_S = 90
LOAD_TIMEOUT_S = 90
ORDERS = 1000


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token() -> str:
    """A JSON Web Token that the API server accepts."""
    signed = ".".join(
        _base64url(json.dumps(part).encode())
        for part in ({"alg": "HS256", "typ": "JWT"}, {"iat": int(time.time()), "exp": int(time.time()) + 3600})
    )
    return f"{signed}.{_base64url(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"


class DataSource:
    """The SQLite file behind the API servers, and the record of what they asked it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data.sqlite"
        self.executions = folder / "executions"
        self.executions.touch()
        with sqlite3.connect(self.path) as connection:
            connection.execute(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, amount INTEGER, created_at TEXT)"
            )
            connection.executemany(
                "INSERT INTO orders VALUES (?, ?, ?, ?)",
                [
                    (
                        number,
                        ("new", "paid", "it's sent")[number % 3],
                        number * 7 % 101,
                        f"2024-01-{number % 28 + 1:02d}",
                    )
                    for number in range(1, ORDERS + 1)
                ],
            )
            connection.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, page TEXT)")
            connection.executemany(
                "INSERT INTO visits VALUES (?, ?)", [(number, f"/{number % 5}") for number in range(100)]
            )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Asked directly."""
        with sqlite3.connect(self.path) as connection:
            return connection.execute(sql).fetchall()

    def queries(self) -> list[dict[str, Any]]:
        """What all API servers together asked, in order: query and values."""
        return [json.loads(line) for line in self.executions.read_text().splitlines()]

    def executed(self, table: str) -> Counter[str]:
        """How often each query on a table was executed."""
        return Counter(json.dumps(line) for line in self.queries() if f"FROM {table}" in line["query"])


class ApiServer:
    """`cubejs-server` of one version as a process; ended by its id."""

    def __init__(
        self,
        version: str,
        cubequeue: Listener,
        data: DataSource,
        folder: Path,
        delay_ms: int,
        settings: Mapping[str, str] | None = None,
        model: Path | None = None,
    ) -> None:
        self.version = version
        self.log = folder / "log"
        self._folder = folder
        packages = package_folder("e2e", version)
        shutil.copytree(APP, folder / "app")
        if model is not None:
            shutil.rmtree(folder / "app/model")
            shutil.copytree(model, folder / "app/model")
        self._script = packages / "node_modules" / "@cubejs-backend" / "server" / "dist" / "src" / "bin" / "server.js"
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CUBE", "NODE_"))},
            "NODE_ENV": "production",
            "PORT": str(self._port),
            "PACKAGES": str(packages),
            "EXECUTIONS": str(data.executions),
            "QUERY_DELAY_MS": str(delay_ms),
            "CUBEJS_API_SECRET": SECRET,
            "CUBEJS_CACHE_AND_QUEUE_DRIVER": "cubestore",
            "CUBEJS_CONCURRENCY": "6",
            "CUBEJS_CUBESTORE_HOST": "127.0.0.1",
            "CUBEJS_CUBESTORE_PORT": str(cubequeue.port),
            "CUBEJS_DB_NAME": str(data.path),
            "CUBEJS_DB_TYPE": "sqlite",
            "CUBEJS_DEV_MODE": "false",
            "CUBEJS_LOG_LEVEL": "trace",
            "CUBEJS_PG_SQL_PORT": "false",
            "CUBEJS_PRE_AGGREGATIONS_BUILDER": "true",
            "CUBEJS_REFRESH_WORKER": "false",
            "CUBEJS_SCHEMA_PATH": "model",
            "CUBEJS_TELEMETRY": "false",
            "CUBEJS_TESSERACT_ORCHESTRATOR": "false",
            "CUBEJS_TESSERACT_SQL_PLANNER": "false",
            "CUBEJS_TRANSPILATION_NATIVE": "false",
            **(settings or {}),
        }
        self._token = token()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                ["node", str(self._script)],
                cwd=self._folder / "app",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        for _ in range(START_TIMEOUT_S * 5):
            assert self._process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=10):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"Cube {self.version} is not ready:\n{self.log.read_text()}")

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def load(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of a query, asked again for as long as the answer is to wait."""
        body = json.dumps({"query": query}).encode()
        headers = {"Authorization": self._token, "Content-Type": "application/json"}
        # As the JavaScript client does: one id for all that a request asks, and a number for each time.
        id_, spans = uuid.uuid4(), itertools.count(1)
        end = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < end:
            named = {**headers, "x-request-id": f"{id_}-span-{next(spans)}"}
            url = f"http://127.0.0.1:{self._port}/cubejs-api/v1/load"
            answer = self._ask(urllib.request.Request(url, body, named))
            if "error" not in answer:
                rows: list[dict[str, Any]] = answer["data"]
                return rows
            assert answer["error"] == "Continue wait", answer
        raise AssertionError(f"no answer in {LOAD_TIMEOUT_S} s to {query}")

    @staticmethod
    def _ask(request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            answer = {"error": f"{error.code}: {error.read().decode()}"}
        return answer

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that tell of an error; to wait is none."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if "rror" in line and "Continue wait" not in line]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
