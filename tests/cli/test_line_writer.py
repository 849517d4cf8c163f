"""Lines leave in order and all of them; a reader that does not read costs lines, not time."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from cubequeue_server.observe.line_writer import LineWriter


def new_writer(max_waiting_bytes: int = 1 << 20) -> LineWriter:
    return LineWriter(lambda count: f"{count} lost", max_waiting_bytes)


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe's reading end, and a stream on its writing end."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    os.close(reading)
    stream.close()


def test_lines_of_several_threads_are_all_written_each_in_its_order(tmp_path: Path) -> None:
    writer = new_writer()
    with (tmp_path / "log").open("w") as file:

        def write(name: int) -> None:
            for number in range(1000):
                writer.write(f"{name} {number}", file)

        threads = [threading.Thread(target=write, args=[name]) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(10)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 4000
    for name in range(4):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {number}" for number in range(1000)]
    assert writer.dropped == 0


def test_lines_to_two_streams_keep_the_order_of_both(tmp_path: Path) -> None:
    writer = new_writer()
    with (tmp_path / "log").open("a") as one, (tmp_path / "log").open("a") as other:
        for number in range(100):
            writer.write(str(number), other if number % 3 else one)
        assert writer.flush(10)
    assert (tmp_path / "log").read_text().splitlines() == [str(number) for number in range(100)]


def check_gaps(lines: list[str], count: int) -> int:
    """Numbers from 0 to `count`, and in each gap how many are missing; returns how many are."""
    due = missing = 0
    for line in lines:
        words = line.split()
        if len(words) == 2:
            due += int(words[0])
            missing += int(words[0])
        else:
            assert int(line) == due
            due += 1
    assert due == count
    return missing


def test_who_does_not_read_holds_nobody_up_and_where_lines_are_missing_it_is_said(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    writer = new_writer(100_000)
    started_s = time.process_time()
    for number in range(20_000):
        writer.write(f"{number:99}", stream)
    assert time.process_time() - started_s < 5, "the pipe is full long before the end"
    assert 15_000 < writer.dropped < 20_000
    assert not writer.flush(0.05)
    text = b""
    while not writer.flush(0.001):
        text += os.read(reading, 65_536)
        while number < 30_000 and writer.dropped < 19_000:  # some more while it drains
            number += 1
            writer.write(f"{number:99}", stream)
            if not number % 50:
                break
    stream.flush()
    os.set_blocking(reading, False)
    while True:
        try:
            text += os.read(reading, 65_536)
        except BlockingIOError:
            break
    assert check_gaps(text.decode().splitlines(), number + 1) == writer.dropped


def test_without_a_reader_lines_are_counted_as_lost(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = new_writer()
    with os.fdopen(writing, "w") as stream:
        writer.write("nobody reads this", stream)
        assert writer.flush(10)
    assert writer.dropped == 1
    with (tmp_path / "log").open("w") as file:
        writer.write("x", file)
        assert writer.flush(10)
    assert (tmp_path / "log").read_text() == "1 lost\nx\n"


def test_a_line_larger_than_the_bound_is_written_when_it_is_alone(tmp_path: Path) -> None:
    writer = new_writer(10)
    with (tmp_path / "log").open("w") as file:
        writer.write("x" * 1_000_000, file)
        assert writer.flush(10)
    assert (tmp_path / "log").stat().st_size == 1_000_001


def test_a_flush_within_a_write_gives_up() -> None:
    """As a handler of signals would do it."""
    writer = new_writer()
    with writer._changed:
        assert not writer.flush(0.01)
    assert writer.flush(0)


def test_undecodable_texts_are_written(tmp_path: Path) -> None:
    writer = new_writer()
    with (tmp_path / "log").open("w") as file:
        writer.write("a\udcffb", file)
        assert writer.flush(10)
    assert re.fullmatch(r"a\\udcffb\n", (tmp_path / "log").read_text())
