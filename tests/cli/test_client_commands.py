"""The commands that talk to a server, against a real one: sql, queues, cancel, top, bench."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

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
    assert (queues["q"]["pending"], queues["q"]["active"]) == (1, 1)
    items = json.loads(run("queues", "q", url(server), "--json").stdout)
    assert {each["key"]: each["status"] for each in items} == {"a": "Active", "b": "Pending"}
    assert run("cancel", str(items[0]["id"]), url(server)).returncode == 0
    assert run("cancel", "q:b", url(server)).returncode == 0
    again = run("cancel", "q:b", url(server))
    assert again.returncode == 1
    assert again.stderr.startswith("cubequeue: there is no item q:b: ")


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


def test_bench_measures_and_leaves_nothing(server: Running) -> None:
    done = run("bench", url(server), "--seconds=1", "--connections=2", "--depth=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the generator is Python: at most" in done.stdout
    for table in ("queue", "queue_results WHERE deleted = false", "cache"):
        rows = json.loads(run("sql", url(server), "--json", f"SELECT COUNT(*) FROM system.{table}").stdout)
        assert list(rows[0].values()) == [0]


def test_texts_fit() -> None:
    assert printable(b"\xff\x9b\n\x7f") == "��\\n\\x7f"
    assert columns(fit("日本語" * 10, 9)) == 9
