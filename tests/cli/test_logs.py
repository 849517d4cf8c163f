"""What log lines look like."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from cubequeue_server.logs import TRACE, configure_logs


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
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z error cubequeue\.test: e$", lines("error", "text")[0])


def test_an_exception_is_part_of_its_entry() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("what")
    entry = json.loads(stream.getvalue())
    assert entry["message"] == "what"
    assert "ValueError: why" in entry["exception"]
