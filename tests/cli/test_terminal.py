"""The commands that want a terminal: top, and the shell of sql."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.commands.queues import QueueLine
from cubequeue_server.commands.tables import columns
from cubequeue_server.commands.top_frame import Figures, View, frame
from tests.cli.running import ENTRY_POINT, TIMEOUT_S, Running, clean_environment, run, serving
from tests.cli.terminal import on_terminal

LEFT = b"\x1b[?1049l"


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def url(server: Running) -> str:
    return "--url=ws://{}:{}".format(*server.ws)


def top(server: Running, *more: str) -> list[str]:
    return ["top", url(server), "--interval=1", *more]


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_draws_frames_and_ends_at_a_key(server: Running, key: bytes) -> None:
    with on_terminal(*top(server)) as terminal:
        terminal.wait_for(lambda text: "statements/s" in text and "statements/s -" not in text)
        terminal.press(key)
        assert terminal.read_to_the_end() == 0
    assert LEFT in terminal.output


def test_top_ends_at_a_signal_and_leaves_the_terminal_as_it_was(server: Running) -> None:
    with on_terminal(*top(server)) as terminal:
        terminal.wait_for(lambda text: "statements/s" in text)
        os.killpg(terminal.process.pid, signal.SIGTERM)
        assert terminal.read_to_the_end() == 0
    assert LEFT in terminal.output


def fill(server: Running, *statements: str) -> None:
    done = subprocess.run(
        [ENTRY_POINT, "sql", url(server)], env=clean_environment(), input=";".join(statements), text=True,
        check=True, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0


def test_top_follows_the_size_of_its_terminal(server: Running) -> None:
    fill(server, *(f"QUEUE ADD PRIORITY 1 'queue_{number:02}:k' 'x'" for number in range(12)))
    with on_terminal(*top(server), size=(100, 30)) as terminal:
        terminal.wait_for(lambda text: text.count("queue_") == 12)
        terminal.resize(40, 10)
        terminal.wait_for(lambda text: text.count("queue_") == 3)
        assert all(len(line) < 40 for line in terminal.lines)
        assert "… and 9 more" in terminal.text
        terminal.resize(5, 2)
        terminal.wait_for(lambda text: len(text.splitlines()) == 2)
        terminal.press(b"q")
        assert terminal.read_to_the_end() == 0


def test_top_moves_sorts_filters_and_opens_a_queue(server: Running) -> None:
    long_name = "SQL_QUERY_STANDALONE_" + "x" * 40
    fill(
        server,
        f"QUEUE ADD PRIORITY 1 '{long_name}:first' 'x'",
        f"QUEUE ADD PRIORITY 9 '{long_name}:second' 'x'",
        f"QUEUE RETRIEVE CONCURRENCY 1 '{long_name}:second'",
        "QUEUE ADD PRIORITY 1 'another:k' 'x'",
    )
    with on_terminal(*top(server), size=(120, 20)) as terminal:
        terminal.wait_for(lambda text: long_name in text)
        assert terminal.text.index(long_name) < terminal.text.index("another")
        terminal.press(b"s")
        terminal.wait_for(lambda text: "by name" in text and text.index("another") < text.index(long_name))
        terminal.press(b"/standalone\r")
        terminal.wait_for(lambda text: "filter standalone" in text and "another" not in text)
        terminal.press(b"\r")
        terminal.wait_for(lambda text: "items of SQL_QUERY_STANDALONE_" in text and "first" in text)
        assert "Active" in terminal.text
        assert "CLAIMED BY" in terminal.text
        terminal.press(b"\x1b")
        terminal.wait_for(lambda text: "another" in text)
        terminal.press(b"q")
        assert terminal.read_to_the_end() == 0


def test_top_shows_no_figures_of_another_server(server: Running) -> None:
    """A port that is mapped may lead to the status port of another server."""
    with serving() as other:
        done = run("top", "--once", url(server), "--status-url=http://{}:{}".format(*other.status))
    assert done.returncode == 0
    assert "another server" in done.stdout
    assert "statements/s" not in done.stdout
    assert "statements/s" in run("top", "--once", url(server)).stdout


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (20, 6), (40, 7), (80, 24), (250, 80)])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
@pytest.mark.parametrize("selected", [0, 150])
def test_a_frame_fits_any_size(size: tuple[int, int], count: int, selected: int) -> None:
    names = ["SQL_QUERY", "日本語" * 30, "x" * 300, "esc\x1b[2J"]
    lines = [QueueLine(names[number % 4], number * 10**9, number, number, 5, 2, "api" * 20) for number in range(count)]
    now = Figures(2.0, lines, {}, {"executed": 10**15, "connections": 10**6, "gauges": None}, 10**12)
    drawn = frame(now, Figures(1.0, lines, {}), "ws://" + "h" * 200, View(selected=selected), size)
    assert len(drawn) <= size[1]
    assert all(columns(line.text) <= max(1, size[0] - 1) for line in drawn)
    assert "\x1b" not in "".join(line.text for line in drawn)


@given(st.lists(st.text("ab", min_size=1, max_size=60), min_size=1, max_size=30, unique=True), st.integers(60, 200))
def test_the_name_of_a_queue_is_cut_last(names: list[str], width: int) -> None:
    lines = [QueueLine(name, 1, 1, 1, 1, 1, "owner" * 10) for name in names]
    drawn = frame(Figures(1.0, lines, {}), Figures(0.0, lines, {}), "ws://h", View(), (width, 100))
    room = width - len("  PENDING  ACTIVE  OLDEST  HEARTBEAT  ADD/s  END/s") - 3
    for name in names:
        if len(name) <= room:
            assert any(line.text.startswith(f"{name} ") for line in drawn), (name, drawn)


def test_the_shell_answers_keeps_a_history_and_ends_at_the_end_of_input(server: Running, tmp_path: Path) -> None:
    variables = {"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    with on_terminal("sql", url(server), variables=variables) as terminal:
        # Each at its own prompt: what is typed ahead of one may be read in another mode of the terminal.
        terminal.wait_for(lambda text: text.rstrip().endswith("cubequeue>"))
        terminal.press(b"CACHE SET TTL 60 'a' 'b'; CACHE GET a\r")
        terminal.wait_for(lambda text: "(1 row)" in text and text.rstrip().endswith("cubequeue>"))
        terminal.press(b"nonsense\r")
        terminal.wait_for(lambda text: "error: " in text)
        terminal.wait_for(lambda text: text.rstrip().endswith("cubequeue>"))
        assert terminal.text.count("(1 row)") == 2
        terminal.press(b"\x04")
        assert terminal.read_to_the_end() == 0
    history = tmp_path / "cubequeue_history"
    assert history.read_text() == "CACHE SET TTL 60 'a' 'b'; CACHE GET a\nnonsense\n"
    assert history.stat().st_mode & 0o077 == 0
    with on_terminal("sql", url(server), variables=variables) as terminal:  # the next shell knows it
        terminal.wait_for(lambda text: text.rstrip().endswith("cubequeue>"))
        terminal.press(b"\x1b[A\x1b[A\r")
        terminal.wait_for(lambda text: text.count("(1 row)") == 2)
        terminal.press(b"\\q\r")
        assert terminal.read_to_the_end() == 0


def test_the_shell_completes_and_has_commands_of_its_own(server: Running, tmp_path: Path) -> None:
    fill(server, "QUEUE ADD PRIORITY 1 'SQL_QUERY:k' 'x'")
    with on_terminal(
        "sql", url(server), size=(100, 60), variables={"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    ) as terminal:

        def type_in(keys: bytes, shown: str) -> None:
            terminal.wait_for(lambda text: text.rstrip().endswith("cubequeue>"))
            terminal.press(keys)
            terminal.wait_for(lambda text: shown in text)

        type_in(b"que\t", "> QUEUE")
        terminal.press(b" lis\t")
        terminal.wait_for(lambda text: "QUEUE LIST" in text)
        terminal.press(b" 'SQL_\t")
        terminal.wait_for(lambda text: "QUEUE LIST 'SQL_QUERY" in text)
        terminal.press(b"'\r")
        terminal.wait_for(lambda text: "(1 row)" in text)
        type_in(b"select count(*) from system.queue_r\t", "system.queue_results")
        terminal.press(b" where\r")
        terminal.wait_for(lambda text: "error: " in text)
        type_in(b"\\x\r", "expanded display is on")
        type_in(b"\\timing\r", "timing is on")
        type_in(b"select 7 as seven\r", "Time: ")
        assert "-[ row 1 ]-" in terminal.text
        type_in(b"\\d system.cache\r", "expire")
        type_in(b"CACHE SET 'k' 'a\r", "...>")  # the quote is open
        terminal.press(b"b'\r")
        type_in(b"\\?\r", "Tab completes")
        type_in(b"\\q\r", "")
        assert terminal.read_to_the_end() == 0


def test_a_long_answer_of_the_shell_goes_through_the_pager(server: Running, tmp_path: Path) -> None:
    fill(server, *(f"QUEUE ADD PRIORITY 1 'q:{number:03}' 'x'" for number in range(60)))
    variables = {"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PAGER": f"tee {tmp_path / 'paged'}"}
    with on_terminal("sql", url(server), variables=variables) as terminal:
        terminal.wait_for(lambda text: text.rstrip().endswith("cubequeue>"))
        terminal.press(b"QUEUE LIST q\r")
        terminal.wait_for(lambda text: "(60 rows)" in text)
        terminal.press(b"\\q\r")
        assert terminal.read_to_the_end() == 0
    assert "(60 rows)" in (tmp_path / "paged").read_text()
