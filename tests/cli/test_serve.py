"""`cubequeue serve` from outside: what it prints, how it stops, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from protocol.client_codec import ErrorReply, Rows, decode_reply, encode_query
from tests.cli.running import ENTRY_POINT, GUARD, clean_environment, first_line, run, serving
from tests.needed import reason


def read(answer: object) -> Rows | ErrorReply:
    assert isinstance(answer, bytes)
    reply = decode_reply(answer)
    assert isinstance(reply, Rows | ErrorReply)
    return reply


def ask(address: tuple[str, int], sql: str) -> Rows | ErrorReply:
    with connect(f"ws://{address[0]}:{address[1]}/ws") as client:
        client.send(encode_query(1, sql))
        return read(client.recv(timeout=10))


def rows(address: tuple[str, int], sql: str) -> list[tuple[bytes | None, ...]]:
    reply = ask(address, sql)
    assert isinstance(reply, Rows), reply
    return reply.rows


@pytest.mark.parametrize("level", ["error", "trace"])
def test_one_line_says_where_it_listens(level: str) -> None:
    with serving("--log-level", level) as server:
        assert re.fullmatch(
            r"cubequeue \d+\.\d+\.\d+ listening ws=127\.0\.0\.1:\d+ status=127\.0\.0\.1:\d+ mysql=off\n", server.line
        )
        assert server.get("/livez") == (200, b"")


def test_an_off_status_port_is_said() -> None:
    with serving("--status-bind", "127.0.0.1:0") as server:
        assert " status=off " in server.line


def test_the_mysql_port_is_said() -> None:
    with serving("--mysql-bind", "127.0.0.1:auto") as server:
        assert re.search(r" mysql=127\.0\.0\.1:\d+\n$", server.line)


def test_statements_are_answered() -> None:
    with serving() as server:
        assert rows(server.ws, "SELECT 1") == [(b"1",)]
        assert rows(server.ws, "CACHE SET 'a:b' 'c'") == [(b"true",)]
        assert rows(server.ws, "CACHE GET 'a:b'") == [(b"c",)]
        assert rows(server.ws, "SELECT 2, 1") == [(b"2", b"1")]


def test_ids_go_on_after_a_restart_without_anything_kept() -> None:
    ids = []
    for _ in range(2):
        with serving() as server:
            ((item_id, *_),) = rows(server.ws, "QUEUE ADD 'p:k' 'x'")
            assert item_id is not None
            ids.append(int(item_id))
    assert ids[0] < ids[1] < 1 << 53


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(signal_number: int) -> None:
    with serving() as server, connect("ws://{}:{}/ws".format(*server.ws)) as client:
        code, seconds, errors = server.end(signal_number)
        assert code == 0
        assert seconds < 5
        client.close_socket()
    entries = [json.loads(line) for line in errors.splitlines()]
    messages = [entry["message"] for entry in entries]
    assert messages == ["started", GUARD, "client connected", "stopping", "connection ended", "stopped"]
    assert entries[3]["signal"] == signal.Signals(signal_number).name


def test_the_first_event_tells_of_the_start(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        with serving(CUBESTORE_DATA_DIR=str(tmp_path)) as server:
            rows(server.ws, "QUEUE ADD 'p:k' 'x'")
            _, _, errors = server.end(signal.SIGTERM)
            found.append(json.loads(errors.splitlines()[0]))
    assert [entry["message"] for entry in found] == ["started", "started"]
    assert [entry["recovered_items"] for entry in found] == [0, 1]
    entry = found[1]
    assert list(entry)[:3] == ["time", "level", "message"]
    assert entry["ws"].startswith("127.0.0.1:")
    assert (entry["durability"], entry["data_dir"], entry["users"]) == ("relaxed", str(tmp_path), False)
    assert entry["max_connections"] == 10_000
    assert entry["opened_ms"] >= 0


def test_clients_are_told_that_the_service_restarts() -> None:
    with serving() as server, connect("ws://{}:{}/ws".format(*server.ws)) as client:
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="1012"):
            client.recv(timeout=10)
        assert server.process.wait(10) == 0


def test_a_waiter_is_answered_at_a_stop() -> None:
    with serving() as server, connect("ws://{}:{}/ws".format(*server.ws)) as client:
        client.send(encode_query(1, "QUEUE RESULT_BLOCKING 60000 5"))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        reply = read(client.recv(timeout=10))
        assert isinstance(reply, Rows)
        assert reply.rows == []
        assert server.process.wait(10) == 0


def test_a_second_interrupt_ends_it_at_once() -> None:
    # A socket that never answers the close keeps the orderly stop waiting.
    with serving() as server, socket.create_connection(server.ws) as silent:
        silent.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert silent.recv(4096).startswith(b"HTTP/1.1 101")
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        code, seconds, _ = server.end(signal.SIGINT)
        assert code == 130
        assert seconds < 1


def test_a_silent_client_cannot_hold_up_the_stop() -> None:
    with serving() as server, socket.create_connection(server.ws) as silent:
        silent.sendall(b"GET /ws HTTP/1.1\r\n")
        code, seconds, _ = server.end(signal.SIGTERM)
        assert code == 0
        assert seconds < 5.5


@pytest.mark.parametrize(
    ("flag", "variable"),
    [
        ("--http-bind", "CUBESTORE_HTTP_PORT"),
        ("--status-bind", "CUBESTORE_STATUS_PORT"),
        ("--mysql-bind", "CUBESTORE_PORT"),
    ],
)
def test_a_taken_port_is_one_line_and_exit_code_1(flag: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:auto", flag, address]
        done = run("serve", *flags, "--log-level", "error")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"cubequeue: cannot listen on {address} ({variable}): address already in use\n"


def test_a_host_that_is_not_ours_is_one_line_and_exit_code_1() -> None:
    done = run("serve", "--http-bind", "192.0.2.1:4000", "--status-port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("cubequeue: cannot listen on 192.0.2.1:4000 (CUBESTORE_HTTP_PORT): ")
    assert done.stderr.count("\n") == 1


def test_a_bad_setting_is_one_line_and_exit_code_2() -> None:
    done = run("serve", CUBESTORE_CACHE_MAX_SIZE="12MB")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "cubequeue: CUBESTORE_CACHE_MAX_SIZE=12MB: out of range, allowed are 32 MiB to 16 GiB\n"


def test_warnings_are_logged_one_line_each() -> None:
    with serving(CUBESTORE_NONSENSE="1", CUBESTORE_S3_BUCKET="b") as server:
        _, _, errors = server.end(signal.SIGTERM)
    warnings = [entry for entry in map(json.loads, errors.splitlines()) if entry["level"] == "warn"]
    assert [entry["message"] for entry in warnings] == [
        "CUBESTORE_NONSENSE is not known and has no effect",
        "CUBESTORE_S3_BUCKET has no effect: there is no remote storage here",
    ]


def test_the_settings_reach_the_server() -> None:
    with serving(CUBESTORE_CACHE_MAX_ENTRY_SIZE="10", CUBEQUEUE_ANNOUNCE_VERSION="1.6.30") as server:
        with connect("ws://{}:{}/ws".format(*server.ws)) as client:
            assert client.response is not None
            assert client.response.headers["X-CubeStore-Version"] == "1.6.30"
        assert "exceeds maximum allowed size for payload" in str(ask(server.ws, "CACHE SET 'k' '0123456789'"))


def is_listening(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def test_a_closed_stdout_is_no_reason_to_stop() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    flags = ["--http-bind", f"127.0.0.1:{address[1]}", "--status-port", "0"]
    process = subprocess.Popen([ENTRY_POINT, "serve", *flags], stdout=writing, env=clean_environment())
    os.close(writing)
    try:
        deadline_s = time.monotonic() + 20
        while not is_listening(address):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None, reason=reason("unshare"))
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_process_1_stops_on_a_signal(signal_number: int) -> None:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us make a PID namespace")
    flags = ["--http-bind", "127.0.0.1:auto", "--status-port", "0"]
    process = subprocess.Popen(
        [*unshare, str(ENTRY_POINT), "serve", *flags], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    try:
        assert first_line(process).startswith("cubequeue ")
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[0]), signal_number)
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
