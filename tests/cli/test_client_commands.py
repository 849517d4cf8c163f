"""The commands that talk to a server, against a real one: sql, queues, cancel, top, bench."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cubequeue_server.commands.tables import columns, fit, printable
from tests.cli.running import ENTRY_POINT, TIMEOUT_S, Running, clean_environment, run, serving


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def url(server: Running) -> str:
    return "--url=ws://{}:{}".format(*server.ws)


def test_sql_prints_a_table_or_json_and_fails_with_an_error_reply(server: Running) -> None:
    assert "true" in run("sql", url(server), "CACHE SET TTL 60 'c:k' 'v'").stdout
    done = run("sql", url(server), "--json", "CACHE GET 'c:k'")
    assert done.returncode == 0
    assert json.loads(done.stdout) == [{"value": "v"}]
    failed = run("sql", url(server), "nonsense")
    assert failed.returncode == 1
    assert "error: " in failed.stderr


def test_sql_reads_statements_of_stdin_and_goes_on_after_an_error(server: Running) -> None:
    done = subprocess.run(
        [ENTRY_POINT, "sql", url(server)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        input="-- a comment\nCACHE SET TTL 60 'a' 'b';\nnonsense\n\nCACHE GET 'a'\n",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.count("(1 row)") == 2


def test_hostile_values_are_escaped_and_cut(server: Running) -> None:
    statements = "QUEUE ADD PRIORITY 1 'p\x1b]0;x\x07:k' 'x'\nCACHE SET TTL 60 'h' '\x1b[2J" + "y" * 5_000_000 + "'\n"
    subprocess.run(
        [ENTRY_POINT, "sql", url(server)],
        env=clean_environment(),
        input=statements.encode(),
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    for arguments in (("sql", "CACHE GET 'h'"), ("queues",), ("top", "--once")):
        done = run(*arguments, url(server))
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert len(done.stdout) < 4_000
        assert "\\x1b" in done.stdout


def test_queues_lists_and_cancel_cancels(server: Running) -> None:
    run("sql", url(server), "QUEUE ADD PRIORITY 1 'q:a' 'x'")
    run("sql", url(server), "QUEUE ADD PRIORITY 1 'q:b' 'x'")
    run("sql", url(server), "QUEUE RETRIEVE CONCURRENCY 1 'q:a'")
    queues = {each["queue"]: each for each in json.loads(run("queues", url(server), "--json").stdout)}
    assert (queues["q"]["pending"], queues["q"]["active"]) == ("1", "1")
    items = json.loads(run("queues", "q", url(server), "--json").stdout)
    assert {each["key"]: each["status"] for each in items} == {"a": "Active", "b": "Pending"}
    assert run("cancel", items[0]["id"], url(server)).returncode == 0
    assert run("cancel", "q:b", url(server)).returncode == 0
    again = run("cancel", "q:b", url(server))
    assert (again.returncode, again.stderr) == (1, "cubequeue: there is no item q:b\n")


def test_credentials_come_from_the_environment_alone() -> None:
    with serving(CUBEQUEUE_USER="u", CUBEQUEUE_PASSWORD="p") as server:
        refused = run("sql", url(server), "SELECT 1")
        assert refused.returncode == 1
        assert "not authorized" in refused.stderr
        assert run("sql", url(server), "SELECT 1", CUBEQUEUE_USER="u", CUBEQUEUE_PASSWORD="p").returncode == 0
        told = run("sql", "--url=ws://u:secret@127.0.0.1:1", "SELECT 1")
        assert told.returncode == 2
        assert "secret" not in told.stderr


def test_no_server_is_one_line() -> None:
    failed = run("queues", "--url=ws://127.0.0.1:1")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_draws_frames_of_the_terminal_and_ends_at_a_key(server: Running, key: bytes) -> None:
    status = "--status-url=http://{}:{}".format(*server.status)
    child, terminal = pty.fork()
    if child == 0:
        environment = {**clean_environment(), "COLUMNS": "80", "LINES": "24"}
        os.execve(ENTRY_POINT, ["cubequeue", "top", url(server), status, "--interval=1"], environment)
    output = b""
    until = time.monotonic() + TIMEOUT_S
    while output.count(b"\x1b[H") < 2 and time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            output += os.read(terminal, 65536)
    os.write(terminal, key)
    while time.monotonic() < until:
        try:
            output += os.read(terminal, 65536)
        except OSError:  # the end of a terminal whose process has gone
            break
    _, code = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(code) == 0
    assert b"statements/s" in output
    assert output.endswith(b"\x1b[?1049l")


def test_bench_measures_and_leaves_nothing(server: Running) -> None:
    done = run("bench", url(server), "--seconds=1", "--connections=2", "--depth=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the generator is Python: at most" in done.stdout
    for table in ("queue", "queue_results WHERE deleted = false", "cache"):
        rows = json.loads(run("sql", url(server), "--json", f"SELECT COUNT(*) FROM system.{table}").stdout)
        assert list(rows[0].values()) == ["0"]


def test_texts_fit() -> None:
    assert printable(b"\xff\x9b\n\x7f") == "��\\n\\x7f"
    assert columns(fit("日本語" * 10, 9)) == 9


def test_the_shell_answers_keeps_a_history_and_ends_at_the_end_of_input(server: Running, tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    shell = subprocess.Popen(
        [ENTRY_POINT, "sql", url(server)],
        env={**clean_environment(), "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        output = b""
        until = time.monotonic() + TIMEOUT_S
        # Each at its own prompt: what is typed ahead of one may be read in another mode of the terminal.
        typed = [b"CACHE SET TTL 60 'a' 'b'\n", b"nonsense\n", b"\x04"]
        prompts = 0
        while time.monotonic() < until:
            if typed and output.count(b"cubequeue> ") > prompts:
                prompts = output.count(b"cubequeue> ")
                os.write(terminal, typed.pop(0))
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    output += os.read(terminal, 65536)
                except OSError:  # the shell has ended
                    break
        assert shell.wait(TIMEOUT_S) == 0, output
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
    assert not typed
    assert b"(1 row)" in output
    assert b"error: " in output
    history = tmp_path / "cubequeue_history"
    assert "CACHE SET" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
