"""Help, version, settings and healthcheck: what they print, and how quickly."""

from __future__ import annotations

import resource
import socket
import time
from pathlib import Path

import pytest

from cubequeue_server.settings.table import TABLE
from cubequeue_server.version import __version__
from tests.cli.running import run, serving

# Of the processor: a machine may be busy. It is 0.05 to 0.1 s, once the byte code is there.
QUICK_S = 0.2


def processor_time_of(*arguments: str) -> float:
    """What a command takes of the processor, its start included; the less of two runs."""
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("serve", "--help"), ("settings",)], ids=" ".join)
def test_it_is_quick(arguments: tuple[str, ...]) -> None:
    assert processor_time_of(*arguments) < QUICK_S


def test_version() -> None:
    assert run("--version").stdout == f"cubequeue {__version__}\n"


def test_help_lists_the_commands() -> None:
    text = run("--help").stdout
    assert all(command in text for command in ("serve", "healthcheck", "settings", "hash-password"))


def test_the_help_of_serve_names_every_setting_with_an_effect() -> None:
    text = run("serve", "--help", COLUMNS="200").stdout
    for setting in TABLE:
        assert (setting.flag in text) == (setting.no_effect is None)
        assert setting.no_effect is not None or setting.main_variable in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "cubequeue: the following arguments are required: COMMAND\n"),
        (("queus",), "cubequeue: there is no command 'queus': did you mean queues?; --help lists them\n"),
        (("xyzzy",), "cubequeue: there is no command 'xyzzy'; --help lists them\n"),
        (("queues", "--jsn"), "cubequeue: unrecognized arguments: --jsn: did you mean --json?\n"),
        (("serve", "--nonsense"), "cubequeue: unrecognized arguments: --nonsense\n"),
        (("serve", "--http-bin", "x"), "cubequeue: unrecognized arguments: --http-bin x: did you mean --http-bind?\n"),
        (
            ("serve", "--password=hunter2"),
            (
                "cubequeue: --password is not taken, everyone can read command lines: "
                "set CUBEQUEUE_PASSWORD or CUBEQUEUE_PASSWORD_FILE\n"
            ),
        ),
        (("serve", "--log-level"), "cubequeue: argument --log-level: expected one argument\n"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", text)


def test_settings_shows_values_and_where_they_are_from(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("cache_max_keys = 7\n")
    done = run("settings", "--config", str(file), "--http-port", "4000", CUBESTORE_LOG_LEVEL="debug", CUBESTORE_FOO="1")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines["http_port"] == ["4000", "--http-port"]
    assert lines["log_level"] == ["debug", "CUBESTORE_LOG_LEVEL"]
    assert lines["cache_max_keys"] == ["7", f"{file}:", "cache_max_keys"]
    assert lines["queue_max_items"] == ["1000000", "default"]
    assert done.stderr == "warning: CUBESTORE_FOO is not known and has no effect\n"


# Health


def test_a_healthy_server_by_its_status_port() -> None:
    with serving() as server:
        host, port = server.status
        assert run("healthcheck", CUBESTORE_STATUS_PORT=str(port)).returncode == 0
        assert run("healthcheck", "--url", f"http://{host}:{port}/livez").returncode == 0
        missing = run("healthcheck", "--url", f"http://{host}:{port}/nothing")
        assert (missing.returncode, missing.stderr) == (
            1,
            f"cubequeue: unhealthy: {host}:{port}/nothing: answered 404\n",
        )


def test_a_healthy_server_by_its_websocket_where_the_status_port_is_off() -> None:
    with serving("--status-bind", "127.0.0.1:0") as server:
        host, port = server.ws
        done = run("healthcheck", CUBESTORE_STATUS_PORT="0", CUBESTORE_HTTP_BIND_ADDR=f"0.0.0.0:{port}")
        assert (done.returncode, done.stderr) == (0, "")
        assert run("healthcheck", "--url", f"ws://{host}:{port}/ws").returncode == 0


def test_a_healthcheck_is_quick() -> None:
    with serving() as server:
        assert processor_time_of("healthcheck", "--status-port", str(server.status[1])) < QUICK_S


def test_no_server_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run("healthcheck", "--status-port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"cubequeue: unhealthy: 127.0.0.1:{port}/readyz: Connection refused\n"


def test_a_listener_that_says_nothing_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        done = run("healthcheck", "--status-port", str(listener.getsockname()[1]))
        assert done.returncode == 1
        assert "timed out" in done.stderr
        assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--url", "ftp://x/"), "ftp://x/: not an http://, https://, ws:// or wss:// address"),
        (("--url", "http://x:99999/"), "Port out of range"),
        (("--http-port", "auto", "--status-port", "0"), "pass --url"),
    ],
)
def test_what_cannot_be_asked(arguments: tuple[str, ...], text: str) -> None:
    done = run("healthcheck", *arguments)
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
