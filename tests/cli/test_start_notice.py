"""The notice that a start prints on a terminal: where the page is, what is kept, who can reach it."""

from __future__ import annotations

import signal

import pytest

from cubequeue_server.observe.start_notice import notice_lines
from cubequeue_server.settings.resolve import load_settings
from cubequeue_server.settings.values import Endpoint
from tests.cli.running import serving
from tests.cli.terminal import on_terminal

EVERYWHERE = {
    "ws": Endpoint("0.0.0.0", 3030),
    "status": Endpoint("0.0.0.0", 3031),
    "mysql": Endpoint("0.0.0.0", 3306),
}
INSIDE = {"ws": Endpoint("10.0.0.7", 3030)}
HERE = {"ws": Endpoint("127.0.0.1", 4030), "status": Endpoint("::1", 4031)}


def facts(listeners: dict[str, Endpoint], **environ: str) -> dict[str, str]:
    lines = notice_lines(load_settings({}, environ).settings, listeners)
    return {line[:12].strip(): line[12:] for line in lines}


def test_a_start_without_settings_warns_of_all_that_is_open() -> None:
    assert facts(EVERYWHERE) == {
        "page": "http://localhost:3031/",
        "for Cube": "CUBEJS_CUBESTORE_HOST=localhost CUBEJS_CUBESTORE_PORT=3030",
        "state": "in memory: a restart empties queue and cache (CUBESTORE_DATA_DIR keeps them)",
        "users": "none: anyone who can reach these ports can use them (CUBEQUEUE_USER and CUBEQUEUE_PASSWORD set one)",
        "reach": "ws, status and mysql listen on all addresses of this machine (CUBESTORE_HTTP_BIND_ADDR and others)",
        "stop": "Ctrl-C",
    }


@pytest.mark.parametrize(
    ("listeners", "environ", "subject", "fact"),
    [
        (HERE, {}, "reach", "this machine only"),
        (HERE, {}, "page", "http://localhost:4031/"),
        (HERE, {"CUBEQUEUE_TLS_CERT": "c", "CUBEQUEUE_TLS_KEY": "k"}, "page", "https://localhost:4031/"),
        (HERE, {"CUBESTORE_DATA_DIR": "/d"}, "state", "kept in /d, durability relaxed"),
        (HERE, {"CUBEQUEUE_USERS_FILE": "u"}, "users", "each client has to name one, with its password"),
        (INSIDE, {}, "reach", "ws on 10.0.0.7"),
        (INSIDE, {}, "for Cube", "CUBEJS_CUBESTORE_HOST=10.0.0.7 CUBEJS_CUBESTORE_PORT=3030"),
        (
            {**HERE, "ws": Endpoint("::", 3030)}, {}, "reach",
            "ws listens on all addresses of this machine (CUBESTORE_HTTP_BIND_ADDR and others)",
        ),
    ],
)  # fmt: skip
def test_a_fact(listeners: dict[str, Endpoint], environ: dict[str, str], subject: str, fact: str) -> None:
    assert facts(listeners, **environ)[subject] == fact


def test_without_a_status_port_there_is_no_page() -> None:
    assert "page" not in facts({"ws": Endpoint("127.0.0.1", 3030)})


def test_a_terminal_is_told() -> None:
    flags = ["--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:auto"]
    with on_terminal("serve", *flags, size=(120, 24)) as terminal:
        terminal.read_until(b"Ctrl-C")
        assert terminal.output.index(b"listening ws=127.0.0.1:") < terminal.output.index(b"page      http://localhost:")
        assert b"this machine only" in terminal.output
        terminal.press(b"\x03")
        assert terminal.read_to_the_end() == 0


def test_a_terminal_that_programs_read_is_not() -> None:
    flags = ["--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:auto", "--log-format", "json"]
    with on_terminal("serve", *flags, size=(120, 24)) as terminal:
        terminal.read_until(b"listening")
        terminal.press(b"\x03")
        assert terminal.read_to_the_end() == 0
        assert b"Ctrl-C" not in terminal.output


def test_a_log_file_is_not() -> None:
    with serving() as server:
        assert server.get("/livez")[0] == 200
        code, _, errors = server.end(signal.SIGTERM)
    assert code == 0
    assert "Ctrl-C" not in errors
