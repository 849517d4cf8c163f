"""The commands that want a terminal: top, and the shell of sql."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cubequeue_server.commands.queues import QueueLine
from cubequeue_server.commands.tables import columns
from cubequeue_server.commands.top import Figures, frame
from tests.cli.running import Running, run, serving
from tests.cli.terminal import Terminal, on_terminal

HOME = b"\x1b[H"
LEFT = b"\x1b[?1049l"


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def url(server: Running) -> str:
    return "--url=ws://{}:{}".format(*server.ws)


def top(server: Running) -> list[str]:
    return ["top", url(server), "--status-url=http://{}:{}".format(*server.status), "--interval=1"]


def last_frame(terminal: Terminal) -> list[str]:
    """The lines of the newest whole frame."""
    whole = terminal.output.split(HOME)[-2]
    return re.sub(rb"\x1b\[[?0-9]*[A-Za-z]", b"", whole).decode().replace("\r", "").split("\n")


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_draws_frames_and_ends_at_a_key(server: Running, key: bytes) -> None:
    with on_terminal(*top(server)) as terminal:
        terminal.read_until(HOME, 2)
        terminal.press(key)
        assert terminal.read_to_the_end() == 0
    assert b"statements/s" in terminal.output
    assert terminal.output.endswith(LEFT)


def test_top_follows_the_size_of_its_terminal(server: Running) -> None:
    for number in range(12):
        run("sql", url(server), f"QUEUE ADD PRIORITY 1 'queue_{number:02}:k' 'x'")
    with on_terminal(*top(server), size=(100, 30)) as terminal:
        terminal.read_until(HOME, 2)
        assert sum("queue_" in line for line in last_frame(terminal)) == 12
        frames = terminal.output.count(HOME)
        terminal.resize(40, 10)
        terminal.read_until(HOME, frames + 3)
        small = last_frame(terminal)
        assert len(small) == 10
        assert all(len(line) < 40 for line in small)
        assert small[-1].startswith("… and 9 more")
        terminal.resize(5, 2)
        terminal.read_until(HOME, terminal.output.count(HOME) + 3)
        assert [len(line) <= 4 for line in last_frame(terminal)] == [True, True]
        terminal.press(b"q")
        assert terminal.read_to_the_end() == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (20, 6), (40, 7), (80, 24), (250, 80)])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_a_frame_fits_any_size(size: tuple[int, int], count: int) -> None:
    names = ["SQL_QUERY", "日本語" * 30, "x" * 300, "esc\x1b[2J"]
    lines = [QueueLine(names[number % 4], number * 10**9, number, number) for number in range(count)]
    now = Figures(2.0, lines, {}, {"executed": 10**15, "connections": 10**6, "gauges": None}, 10**12)
    drawn = frame(now, Figures(1.0, lines, {}), "ws://" + "h" * 200, size)
    assert len(drawn) <= size[1]
    assert all(columns(line) <= max(1, size[0] - 1) for line in drawn)
    assert "\x1b" not in "".join(drawn)


def test_the_shell_answers_keeps_a_history_and_ends_at_the_end_of_input(server: Running, tmp_path: Path) -> None:
    variables = {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    with on_terminal("sql", url(server), variables=variables) as terminal:
        # Each at its own prompt: what is typed ahead of one may be read in another mode of the terminal.
        for prompts, typed in enumerate([b"CACHE SET TTL 60 'a' 'b'\n", b"nonsense\n", b"\x04"], 1):
            terminal.read_until(b"cubequeue> ", prompts)
            terminal.press(typed)
        assert terminal.read_to_the_end() == 0
    assert b"(1 row)" in terminal.output
    assert b"error: " in terminal.output
    history = tmp_path / "cubequeue_history"
    assert "CACHE SET" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    with on_terminal("sql", url(server), variables=variables) as terminal:  # the next shell knows it
        terminal.read_until(b"cubequeue> ")
        terminal.press(b"\x1b[A\x1b[A\n")
        terminal.read_until(b"(1 row)")
        terminal.read_until(b"cubequeue> ", 2)
        terminal.press(b"\\q\n")
        assert terminal.read_to_the_end() == 0
