"""A data directory from outside: what outlasts which end, who may use it, backup and restore."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from protocol.client_codec import ErrorReply, Rows, decode_reply, encode_query
from tests.cli.running import Running, run, serving

PAYLOAD = "it''s \\\\ long" * 300
LARGE = "x" * 3_000_000


class Client:
    """One that numbers what it asks, and can ask the same again."""

    def __init__(self, connection: ClientConnection, client_id: str = "a client") -> None:
        self._connection = connection
        self._id = client_id
        self._last = 0

    def ask(self, sql: str, message_id: int | None = None) -> list[tuple[bytes | None, ...]]:
        self._last += 1
        self._connection.send(encode_query(message_id or self._last, sql, connection_id=self._id))
        answer = self._connection.recv(timeout=20)
        assert isinstance(answer, bytes)
        reply = decode_reply(answer)
        assert isinstance(reply, Rows), reply
        return reply.rows


def talk(server: Running, do: Callable[[Client], object], client_id: str = "a client") -> None:
    with connect(f"ws://{server.ws[0]}:{server.ws[1]}/ws", max_size=None) as connection:
        do(Client(connection, client_id))


def fill(client: Client) -> None:
    assert client.ask(f"QUEUE ADD PRIORITY 7 'q:a' '{PAYLOAD}'")[0][1] == b"true"
    assert client.ask("QUEUE ADD PRIORITY 1 'q:b' 'short'")[0][1] == b"true"
    assert client.ask("QUEUE RETRIEVE EXTENDED CONCURRENCY 1 'q:a'")[0][3] == b"a"
    client.ask("QUEUE MERGE_EXTRA 'q:a' '{\"step\":1}'")
    assert client.ask(f"QUEUE ACK 'q:b' '{LARGE}'") == [(b"true",)]
    assert client.ask("CACHE SET TTL 1000 'c:k' 'value'") == [(b"true",)]
    assert client.ask("CACHE INCR 'c:n'") == [(b"1",)]


def is_all_there(client: Client) -> None:
    assert [(row[0], row[2], row[3]) for row in client.ask("QUEUE LIST 'q'")] == [(b"a", b"active", b'{"step":1}')]
    assert client.ask("QUEUE GET 'q:a'")[0][0] == PAYLOAD.replace("''", "'").replace("\\\\", "\\").encode()
    assert client.ask("QUEUE RESULT 'q:b'")[0][0] == LARGE.encode()
    assert client.ask("CACHE GET 'c:k'") == [(b"value",)]


@pytest.mark.parametrize("mode", ["relaxed", "strict"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_everything_outlasts_the_process(mode: str, end: signal.Signals, tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path), "--durability", mode)
    with serving(*flags) as server:
        talk(server, fill)
        assert server.end(end)[0] == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    with serving(*flags) as server:
        talk(server, lambda client: client.ask("CACHE INCR 'c:n'", 7))  # the last of the first run, sent again
        talk(server, is_all_there, "another")
        talk(server, lambda client: _is([(b"2",)], client.ask("CACHE INCR 'c:n'")), "a third")


def _is(expected: object, actual: object) -> None:
    assert expected == actual


def test_the_cache_may_be_left_out(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path), "--cache-durability", "memory")
    with serving(*flags) as server:
        talk(server, fill)
        server.end(signal.SIGKILL)
    with serving(*flags) as server:
        talk(server, lambda client: _is([(None,)], client.ask("CACHE GET 'c:k'")), "another")
        talk(server, lambda client: _is(1, len(client.ask("QUEUE LIST 'q'"))), "another")


def test_a_second_server_on_the_directory_does_not_start(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as server:
        talk(server, fill)
        flags = ("--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:0", "--data-dir", str(tmp_path))
        second = run("serve", *flags)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert "another process has it open" in second.stderr
        talk(server, is_all_there, "another")


def test_a_durable_mode_needs_a_directory() -> None:
    refused = run("serve", "--durability", "strict")
    assert refused.returncode == 2
    assert refused.stderr == "cubequeue: --durability=strict: it needs a data directory, CUBESTORE_DATA_DIR\n"


def test_a_backup_beside_a_running_server_can_be_restored(tmp_path: Path) -> None:
    one, two, file = tmp_path / "one", tmp_path / "two", tmp_path / "backup"
    with serving("--data-dir", str(one)) as server:
        talk(server, fill)
        done = run("backup", str(file), "--data-dir", str(one))
        assert (done.returncode, done.stderr) == (0, ""), done
        talk(server, is_all_there, "another")
    done = run("restore", str(file), "--data-dir", str(two))
    assert (done.returncode, done.stderr) == (0, ""), done
    with serving("--data-dir", str(two)) as server:
        talk(server, is_all_there, "a third")
    refused: subprocess.CompletedProcess[str] = run("restore", str(file), "--data-dir", str(two))
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr


def test_the_helper_ends_with_the_server(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert len(children) == 1
        server.end(signal.SIGKILL)
        helper = Path(f"/proc/{children[0]}")
        for _ in range(200):
            if not helper.exists() or "State:\tZ" in (helper / "status").read_text():
                return
            signal.sigtimedwait([], 0.02)
        raise AssertionError("the process that syncs lives on")


def test_an_error_is_an_error(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as server, connect(f"ws://{server.ws[0]}:{server.ws[1]}/ws") as client:
        client.send(encode_query(1, "QUEUE ADD"))
        answer = client.recv(timeout=10)
        assert isinstance(answer, bytes)
        assert isinstance(decode_reply(answer), ErrorReply)
