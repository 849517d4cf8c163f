"""A whole server whose log nobody reads, or nobody can."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

from protocol.client_codec import decode_reply, encode_query
from tests.cli.running import ENTRY_POINT, GUARD, Running, clean_environment, first_line, serving

FLAGS = ["--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:auto", "--log-level", "trace"]


def ask_many(server: Running, count: int) -> None:
    """Statements, each of which is a line of the log at level trace."""
    with connect("ws://{}:{}/ws".format(*server.ws), proxy=None) as socket:
        for number in range(count):
            socket.send(encode_query(number, f"CACHE SET 'k{number}' '{'x' * 150}'"))
            decode_reply(socket.recv(timeout=10))  # type: ignore[arg-type]


def dropped(server: Running) -> float:
    match = re.search(rb"^cubequeue_log_lines_dropped_total (\S+)$", server.get("/metrics")[1], re.MULTILINE)
    assert match is not None
    return float(match[1])


def test_a_log_that_nobody_reads_holds_nothing_up_and_loses_nothing_that_fits() -> None:
    """It is far more than a pipe holds, and comes whole when somebody reads."""
    with serving("--log-level", "trace") as server:
        ask_many(server, 3_000)
        assert server.get("/readyz")[0] == 200
        assert dropped(server) == 0
        code, _, log = server.end(signal.SIGTERM)
    assert code == 0
    assert log.count("CACHE SET") == 3_000
    assert json.loads(log.splitlines()[-1])["message"] == "stopped"


def test_a_stop_does_not_wait_for_a_reader_that_does_not_read() -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [ENTRY_POINT, "serve", *FLAGS], env=clean_environment(), stdout=subprocess.PIPE, stderr=writing, text=True
    )
    os.close(writing)
    try:
        ask_many(Running(process, first_line(process)), 1_000)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - start < 5
    finally:
        process.kill()
        process.wait(10)
        os.close(reading)
        assert process.stdout is not None
        process.stdout.close()


def test_stdout_and_stderr_in_one_file_are_in_order(tmp_path: Path) -> None:
    """A warning of the start stands before the line that says that it listens, and the rest after it."""
    with (tmp_path / "log").open("w") as file:
        process = subprocess.Popen(
            [ENTRY_POINT, "serve", *FLAGS, "--log-level", "info"],
            env=clean_environment(CUBESTORE_REMOTE_DIR="/nowhere"), stdout=file, stderr=file,
        )  # fmt: skip
        try:
            deadline_s = time.monotonic() + 20
            while "listening" not in (tmp_path / "log").read_text():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait(10)
    lines = (tmp_path / "log").read_text().splitlines()
    kinds = ["listening" if " listening ws=" in line else json.loads(line)["message"] for line in lines]
    assert "CUBESTORE_REMOTE_DIR" in kinds[0]
    assert kinds[1:] == ["listening", "started", GUARD, "stopping", "stopped"]


def test_without_stdout_and_stderr_it_serves() -> None:
    """`>&- 2>&-`: the process has neither; where it listens was said beforehand."""
    with serving() as probe:
        port = probe.status[1]
    command = f'exec "{ENTRY_POINT}" serve --http-bind 127.0.0.1:auto --status-bind 127.0.0.1:{port} >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", command], env=clean_environment())
    try:
        deadline_s = time.monotonic() + 20
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/readyz")
                assert connection.getresponse().status == 200
                connection.close()
                break
            except OSError:
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
