"""Logging by the standard library to stderr: one line an event, text on a terminal and JSON elsewhere.

`log_event` logs a constant message with fields. Payloads, results and cache values are never logged, and values from
clients are cut to a bounded length. A thread writes the lines (line_writer).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from cubequeue_server.observe.line_writer import LineWriter

TRACE = 5

_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_NAMES = {number: name for name, number in _LEVELS.items()} | {logging.CRITICAL: "error"}

# ANSI colours of levels on a terminal, unless NO_COLOR is set (no-color.org).
_COLOURS: Final[Mapping[str, str]] = {"error": "31", "warn": "33", "info": "32", "debug": "2", "trace": "2"}

_MAX_TEXT: Final = 200
_EMPTY: Final = ("", b"")
_PRINT_TIMEOUT_S: Final = 0.2


def configure_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Log events of `level` and above to `stream` (stderr when None); `form` is auto, text or json."""
    target: TextIO | None = sys.stderr if stream is None else stream  # None without one
    as_text = form == "text" or (form == "auto" and target is not None and target.isatty())
    handler = logging.NullHandler() if target is None else _Handler(target)
    has_colours = target is not None and target.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(_TextFormatter(has_colours=has_colours) if as_text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.addLevelName(TRACE, "TRACE")
    # A line that cannot be written must not cause more lines.
    logging.raiseExceptions = False
    # At debug and trace, libraries would drown the server's own lines.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    logging.getLogger("mysql_mimic").setLevel(logging.ERROR)  # a line for each refused login


def print_line(line: str) -> None:
    """Write a line to stdout, after all earlier log lines. Waits 0.2 s at most."""
    if sys.stdout is not None:  # the process may have none
        _writer.write(line, sys.stdout)
        _writer.flush(_PRINT_TIMEOUT_S)


def print_notice(lines: Iterable[str]) -> None:
    """Write lines for a person to stderr, if it is a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        for line in lines:
            _writer.write(line, sys.stderr)


def flush_logs(timeout_s: float = 1.0) -> None:
    """Wait until all log lines were written, or for the timeout."""
    _writer.flush(timeout_s)


def dropped_lines() -> int:
    """How many log lines could not be written since the start."""
    return _writer.dropped


def log_event(
    log: logging.Logger, level: int, event: str, fields: Mapping[str, Any], error: BaseException | None = None
) -> None:
    """Log an event. Fields that are None or empty are left out; texts and bytes are cut to 200 characters."""
    if log.isEnabledFor(level):
        shown = {name: _shown(value) for name, value in fields.items() if value is not None and value not in _EMPTY}
        log.log(level, "%s", event, extra={"fields": shown}, exc_info=error)


def _shown(value: object) -> object:
    """A value of a type that JSON has, of bounded length."""
    if isinstance(value, bool | int | float):
        return value
    text = value[: 4 * _MAX_TEXT].decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class _Handler(logging.Handler):
    """Passes lines to the writer. `logging` calls `flush` at the end of the process."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _writer.write(self.format(record), self._stream)
        except Exception:  # as in the standard library: logging must not make its caller fail
            self.handleError(record)

    def flush(self) -> None:
        flush_logs()


def _dropped_line(count: int) -> str:
    event = {"name": __name__, "levelno": logging.WARNING, "msg": "log lines were dropped", "fields": {"count": count}}
    record = logging.makeLogRecord(event)
    handlers = logging.getLogger().handlers
    return handlers[0].format(record) if handlers else record.getMessage()


_writer = LineWriter(_dropped_line)


class _TextFormatter(logging.Formatter):
    """For people: one line, followed by the traceback of an exception; with the level in its colour on a terminal."""

    def __init__(self, *, has_colours: bool) -> None:
        super().__init__()
        self._colours = _COLOURS if has_colours else {}

    def format(self, record: logging.LogRecord) -> str:
        level = _level_name(record)
        begin, end = (f"\x1b[{self._colours[level]}m", "\x1b[0m") if level in self._colours else ("", "")
        message = _on_one_line(record.getMessage())
        words = [f"{_timestamp(record)} {begin}{level:5}{end} {record.name}: {message}"]
        words += [f"{name}={_word(value)}" for name, value in vars(record).get("fields", {}).items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    """For programs: one object a line, what every line has ahead of the fields, which cannot replace it."""

    def format(self, record: logging.LogRecord) -> str:
        usual = {
            "time": _timestamp(record),
            "level": _level_name(record),
            "message": record.getMessage(),
            "logger": record.name,
        }
        entry = usual | vars(record).get("fields", {}) | usual
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _word(value: object) -> str:
    """A value without blanks as it is, others in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.isprintable() and not any(each in value for each in ' "=\\')
    return value if plain else json.dumps(_on_one_line(value), ensure_ascii=False)
