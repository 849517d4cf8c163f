"""The commands of an incident: item, wait-for, cache, monitor; the demo, completion, and what all commands share."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cubequeue_server.arguments import COMMANDS
from tests.cli.running import ENTRY_POINT, TIMEOUT_S, Running, clean_environment, run, serving
from tests.cli.terminal import on_terminal

PAYLOAD = json.dumps({"queryHandler": "query", "query": {"query": ["SELECT 1 AS needle", []]}})


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def url(server: Running) -> str:
    return "--url=ws://{}:{}".format(*server.ws)


def sql(server: Running, *statements: str) -> list[Any]:
    done = subprocess.run(
        [ENTRY_POINT, "sql", url(server), "--json"], env=clean_environment(), input="\n".join(statements), text=True,
        check=True, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_json(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# JSON


def test_json_has_numbers_milliseconds_and_all_rows(server: Running) -> None:
    before_ms = time.time_ns() // 1_000_000
    answers = sql(server, *(f"QUEUE ADD PRIORITY {number} 'q:{number}' 'x'" for number in range(120)))
    assert answers[7] == [{"id": answers[7][0]["id"], "added": True, "pending": 8}]
    assert len(of_json("queues", "q", url(server))) == 120, "--limit is for people"
    assert len(run("queues", "q", url(server)).stdout.splitlines()) == 103
    (queue,) = of_json("queues", url(server))
    assert (queue["queue"], queue["pending"], queue["active"], queue["heartbeat_ms"]) == ("q", 120, 0, None)
    assert 0 <= queue["oldest_ms"] < 600_000
    first = of_json("queues", "q", url(server))[0]
    assert (first["priority"], first["status"]) == (119, "Pending")
    assert before_ms <= first["created_ms"] <= time.time_ns() // 1_000_000
    ((row,),) = sql(
        server, "SELECT count(*) AS n, min(created) AS at, 1.5 AS f, NULL AS nothing, 'a' AS t FROM system.queue"
    )
    assert (row["n"], row["f"], row["nothing"], row["t"]) == (120, 1.5, None, "a")
    assert before_ms <= row["at"]


def test_json_of_the_other_commands(server: Running, tmp_path: Path) -> None:
    sql(server, "QUEUE ADD PRIORITY 1 'q:a' 'x'", "CACHE SET TTL 60 'c:k' 'v'")
    top = of_json("top", url(server))
    assert top["queues"][0]["pending"] == 1
    assert top["server"]["connections"] == 1
    assert of_json("cache", url(server))[0] == {
        "name": "c",
        "entries": 1,
        "bytes": top_bytes(top),
        "hits": 0,
        "misses": 0,
    }
    assert of_json("cancel", "q:a", url(server)) == {"item": "q:a", "cancelled": True}
    host, port = server.status
    assert of_json("healthcheck", f"--url=http://{host}:{port}/livez") == {"healthy": True, "reason": None}
    unhealthy = run("healthcheck", f"--url=http://{host}:{port}/nothing", "--json")
    assert (unhealthy.returncode, json.loads(unhealthy.stdout)["healthy"]) == (1, False)
    settings = of_json("settings", "--http-port", "4000")
    assert settings["http_port"] == {"value": 4000, "from": "--http-port"}
    assert settings["query_timeout"] == {"value": 120_000, "from": "default"}
    bench = of_json("bench", url(server), "--seconds=1", "--connections=1")
    assert bench["queue"]["errors"] == {}
    assert bench["cache"]["per_s"] > 0


def top_bytes(top: dict[str, Any]) -> int:
    """The bytes of the cache, as SYS CACHESTORE INFO counts them."""
    size = top["info"]["CacheItems.size_total"]
    assert isinstance(size, int)
    return size


# Items


def test_an_item_says_why_it_waits(server: Running) -> None:
    sql(
        server,
        f"QUEUE ADD PRIORITY 5 'q:running' '{PAYLOAD}'",
        "QUEUE RETRIEVE CONCURRENCY 1 'q:running'",
        f"QUEUE ADD PRIORITY 1 'q:late' '{PAYLOAD}'",
        f"QUEUE ADD PRIORITY 9 'q:early' '{PAYLOAD}'",
        "QUEUE ADD PRIORITY 0 'other:late' 'x'",
    )
    waits = run("item", "q:late", url(server)).stdout
    assert re.search(r"place 2 in line; 1 run: running \(\d+s old, 127\.0\.0\.1:\d+\)", waits), waits
    assert "SELECT 1 AS needle" in waits
    assert "last heartbeat" in run("item", "running", url(server)).stdout, "a key that only one queue has"
    several = run("item", "late", url(server))
    assert (several.returncode, several.stderr) == (
        2,
        "cubequeue: late is in several queues, name it as queue:key: other, q\n",
    )
    late = of_json("item", "q:late", url(server))
    assert (late["place"], late["active"], late["priority"], late["value"]) == (2, 1, 1, PAYLOAD)
    missing = run("item", "q:none", url(server))
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)


def test_wait_for_ends_with_the_item_or_its_time_and_takes_no_result(server: Running) -> None:
    sql(server, "QUEUE ADD PRIORITY 5 'q:a' 'x'", "QUEUE RETRIEVE CONCURRENCY 1 'q:a'")
    late = run("wait-for", "q:a", url(server), "--timeout=1")
    assert (late.returncode, late.stdout) == (124, "q:a is active after 1 s\n")
    waiting = subprocess.Popen(
        [ENTRY_POINT, "wait-for", "q:a", url(server)], env=clean_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        while sql(server, "SELECT 1")[0] and not server_sees(server, 2):
            pass
        sql(server, "QUEUE ACK 'q:a' 'done'")
        said, _ = waiting.communicate(timeout=TIMEOUT_S)
    finally:
        waiting.kill()
        waiting.wait(TIMEOUT_S)
    assert said.startswith("q:a")
    assert waiting.returncode == 0
    assert sql(server, "QUEUE RESULT 'q:a'")[0][0]["payload"] == "done", "the result is still there for a client"
    assert run("wait-for", "q:none", url(server)).returncode == 1


def server_sees(server: Running, connections: int) -> bool:
    """Whether so many clients are connected, besides the one that asks none here."""
    figures = json.loads(server.get("/api/server")[1])
    return int(figures["connections"]) >= connections - 1


def test_queues_says_when_there_is_none_and_what_was_meant(server: Running) -> None:
    assert run("queues", url(server)).stdout == "no items in any queue\n"
    sql(server, "QUEUE ADD PRIORITY 1 'SQL_QUERY:a' 'x'")
    done = run("queues", "SQL_QUERI", url(server))
    assert (done.returncode, done.stdout) == (0, "no items in queue SQL_QUERI; did you mean SQL_QUERY?\n")


def test_oldest_is_the_oldest_pending_item_everywhere(server: Running) -> None:
    sql(server, "QUEUE ADD PRIORITY 1 'q:a' 'x'", "QUEUE RETRIEVE CONCURRENCY 1 'q:a'")
    assert of_json("queues", url(server))[0]["oldest_ms"] is None
    assert of_json("queues", url(server))[0]["heartbeat_ms"] is not None
    assert of_json("top", url(server))["queues"][0]["oldest_ms"] is None
    assert json.loads(server.get("/api/queues")[1])["rows"][0]["oldest_ms"] is None


# Cache


def test_cache_lists_prefixes_keys_and_a_value(server: Running) -> None:
    sql(server, "CACHE SET TTL 60 'c:k' 'v'", "CACHE SET 'c:longer' 'value'", "CACHE GET 'c:k'", "CACHE GET 'c:none'")
    listed = run("cache", url(server)).stdout.splitlines()
    assert listed[2].split()[:2] == ["c", "2"]
    assert listed[2].endswith("50.0 %")
    keys = of_json("cache", "c", url(server))
    assert [(key["key"], key["characters"], key["ttl_ms"] is None) for key in keys] == [
        ("longer", 5, True),
        ("k", 1, False),
    ]
    assert run("cache", "c:longer", "--get", url(server)).stdout == "value"
    assert run("cache", "nothing", url(server)).stdout == "no keys with prefix nothing\n"
    assert run("cache", "c:none", "--get", url(server)).returncode == 1
    closed = run("cache", url(server), "--status-url=http://127.0.0.1:1")
    assert closed.returncode == 0
    assert closed.stdout.splitlines()[2].split() == ["c", "2", "-", "-", "-", "-"]


# Monitor


def test_monitor_shows_statements_of_others_and_ends_its_watch(server: Running) -> None:
    with subprocess.Popen(
        [ENTRY_POINT, "monitor", url(server), "--json", "--text=needle"], env=clean_environment(),
        stdout=subprocess.PIPE,
    ) as watching:  # fmt: skip
        try:
            assert watching.stdout is not None
            seen = b""
            until_s = time.monotonic() + TIMEOUT_S
            while b'"error": "' not in seen:
                assert time.monotonic() < until_s
                run("sql", url(server), "CACHE SET 'needle' 'v'; CACHE nonsense needle")
                if select.select([watching.stdout], [], [], 1.0)[0]:
                    seen += os.read(watching.stdout.fileno(), 65_536)
        finally:
            watching.send_signal(signal.SIGINT)
        assert watching.wait(TIMEOUT_S) == 130
    row = json.loads(seen.splitlines()[0])
    assert row["text"] == "CACHE SET 'needle' 'v'"
    assert row["duration_ms"] < 10_000
    assert re.fullmatch(r"127\.0\.0\.1:\d+", row["peer"])


# Completion


def complete(line: str, server: Running | None = None) -> list[str]:
    """What bash is told for a line."""
    variables = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }  # fmt: skip
    address = {} if server is None else {"CUBEQUEUE_URL": "{}:{}".format(*server.ws)}
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        # File descriptor 8 is where argcomplete writes.
        done = subprocess.run(
            ["bash", "-c", f"exec 8>&{writing}; exec {ENTRY_POINT}"], env=clean_environment(**variables, **address),
            pass_fds=[writing], check=False, capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    finally:
        os.close(writing)
        with os.fdopen(reading) as told:
            words = told.read()
    return [word.strip() for word in words.split("\n") if word.strip()]


def test_completion_of_commands_flags_choices_and_queues(server: Running) -> None:
    assert complete("cubequeue que") == ["queues"]
    assert {"--json", "--limit", "--url"} <= {*complete("cubequeue queues --")}
    assert complete("cubequeue history --outcome stal") == ["stalled"]
    assert complete("cubequeue serve --http-b") == ["--http-bind"]
    sql(server, "QUEUE ADD PRIORITY 1 'SQL_QUERY:a' 'x'")
    assert complete("cubequeue queues SQL", server) == ["SQL_QUERY"]
    assert complete("cubequeue queues SQL") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code_of_a_shell(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "cubequeue" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True, timeout=TIMEOUT_S)


# What all share


def test_the_module_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cubequeue_server", "--version"], env=clean_environment(), capture_output=True,
        text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert done.stdout == run("--version").stdout


def test_a_reader_that_has_seen_enough_causes_no_error(server: Running) -> None:
    sql(server, *(f"QUEUE ADD PRIORITY 1 'q{number}:a' 'x'" for number in range(500)))
    for words in ("queues --limit 500", "--help", "settings", "serve --help", "settings --json"):
        command = f"{ENTRY_POINT} {words} {url(server) if 'queues' in words else ''} | head -n 1"
        done = subprocess.run(
            ["bash", "-c", command],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), words


def test_colours_are_for_terminals_only(server: Running) -> None:
    sql(server, "QUEUE ADD PRIORITY 1 'q:a' 'x'")
    assert "\x1b" not in run("queues", url(server), TERM="xterm").stdout
    for variables, coloured in (
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ):
        with on_terminal("queues", url(server), variables=variables) as terminal:
            assert terminal.read_to_the_end() == 0
        assert (b"\x1b[1m" in terminal.output) == coloured, variables


@pytest.mark.parametrize("command", ["backup", "restore", "healthcheck"])
def test_the_help_of_a_command_has_its_own_settings_only(command: str) -> None:
    text = run(command, "--help", COLUMNS="200").stdout
    assert "--cache-max-size" not in text
    assert "--json" in text
    taken = run(command, *(["/nowhere/file"] if command != "healthcheck" else []), "--cache-max-size", "nonsense")
    assert "unrecognized" not in taken.stderr, "the flags of serve may be given to each"
    assert "CUBEQUEUE_URL" not in run("settings", CUBEQUEUE_URL="h").stderr


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"serve", "demo", "hash-password", "completion"}))
def test_each_command_that_prints_has_json(command: str) -> None:
    assert "--json" in run(command, "--help").stdout


# Demo


def test_the_demo_shows_life_and_ends_with_its_server() -> None:
    process = subprocess.Popen(
        [ENTRY_POINT, "demo", "--seconds=60"], env=clean_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(7))
        address = re.search(r"top --url (\S+)", said)
        page = re.search(r"http://(\S+)/", said)
        assert address is not None
        assert page is not None
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            queues = of_json("queues", f"--url={address[1]}")
            if {queue["queue"] for queue in queues} >= {"SQL_QUERY_STANDALONE_default"} and any(
                q["active"] for q in queues
            ):
                break
            assert time.monotonic() < until_s, queues
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
        assert run("queues", f"--url={address[1]}").returncode == 1, "its server has gone"
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()
