"""What log lines look like."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from cubequeue_server.observe.logs import TRACE, configure_logs, flush_logs, log_event


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def lines(level: str, form: str) -> list[str]:
    stream = io.StringIO()
    configure_logs(level, form, stream)
    log = logging.getLogger("cubequeue.test")
    for number, text in ((TRACE, "t"), (10, "d"), (20, "i"), (30, "w"), (40, "e"), (50, "c")):
        log.log(number, "%s\n\N{GRINNING FACE}", text)
    flush_logs()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("error", ["error", "error"]),
        ("warn", ["warn", "error", "error"]),
        ("info", ["info", "warn", "error", "error"]),
        ("debug", ["debug", "info", "warn", "error", "error"]),
        ("trace", ["trace", "debug", "info", "warn", "error", "error"]),
    ],
)
def test_levels_are_named_as_cubestores(level: str, names: list[str]) -> None:
    assert [json.loads(line)["level"] for line in lines(level, "json")] == names


def test_json_is_one_line_an_entry_also_to_what_is_no_terminal() -> None:
    (entry, _) = (json.loads(line) for line in lines("error", "auto"))
    assert entry["message"] == "e\n\N{GRINNING FACE}"
    assert entry["logger"] == "cubequeue.test"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])


def test_text_is_for_people() -> None:
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z error cubequeue\.test: e\\n\N{GRINNING FACE}$", lines("error", "text")[0])


def test_an_exception_is_part_of_its_entry() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("what")
    flush_logs()
    entry = json.loads(stream.getvalue())
    assert entry["message"] == "what"
    assert "ValueError: why" in entry["exception"]


def event_line(form: str, fields: dict[str, Any]) -> str:
    stream = io.StringIO()
    configure_logs("info", form, stream)
    log_event(logging.getLogger("cubequeue.test"), logging.INFO, "it happened", fields)
    flush_logs()
    return stream.getvalue()


FIELDS = {"cause": "slow", "peer": "[::1]:5", "count": 3, "ratio": 0.5, "key": b'a b="\n', "none": None, "empty": b""}


def test_an_event_is_a_message_and_fields() -> None:
    entry = json.loads(event_line("json", FIELDS))
    assert entry.pop("time")
    assert entry == {
        "level": "info",
        "logger": "cubequeue.test",
        "message": "it happened",
        "cause": "slow",
        "peer": "[::1]:5",
        "count": 3,
        "ratio": 0.5,
        "key": 'a b="\n',
    }
    line = event_line("text", FIELDS)
    assert line.endswith(r'''it happened cause=slow peer=[::1]:5 count=3 ratio=0.5 key="a b=\"\\n"''' + "\n")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", [b"x\ny\r\x1b[31m\xff\x00", "\u2028\u0085", b"z" * 1_000_000])
def test_what_a_client_sent_is_one_short_line(form: str, text: str | bytes) -> None:
    line = event_line(form, {"key": text})
    assert len(line.splitlines() if form == "text" else line.split("\n")[:-1]) == 1
    assert len(line) < 500
    assert "\x1b" not in line


def test_time_level_and_message_come_ahead_of_fields() -> None:
    entry = json.loads(event_line("json", {"a": 1, "b": 2}))
    assert list(entry) == ["time", "level", "message", "logger", "a", "b"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "has_colours"), [("", True), ("1", False)])
def test_levels_have_colours_on_a_terminal(no_color: str, has_colours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = _Terminal()
    configure_logs("info", "auto", stream)
    logging.getLogger("cubequeue.test").error("e \x1b[31m")
    flush_logs()
    line = stream.getvalue()
    assert ("\x1b[31merror\x1b[0m cubequeue" in line) == has_colours
    assert line.endswith("e \\x1b[31m\n")


def test_fields_do_not_replace_what_every_line_has() -> None:
    assert json.loads(event_line("json", {"level": "none", "message": "other"}))["message"] == "it happened"


def test_an_event_below_the_level_is_not_put_together() -> None:
    configure_logs("info", "json", io.StringIO())

    class Unprintable:
        def __str__(self) -> str:
            raise AssertionError

    log_event(logging.getLogger("cubequeue.test"), logging.DEBUG, "it happened", {"x": Unprintable()})
