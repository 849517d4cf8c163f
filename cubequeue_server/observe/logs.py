"""Logs: the standard library's, to stderr, one line an event, as text for a terminal and as JSON otherwise.

An event is a message that is always the same and fields that say the rest: `log_event`. Payloads, results and cache
values are never in them; what a client sent at all is cut to a bounded length. Lines are written by a thread, so that
their reader cannot hold the server up (line_writer).
"""

from __future__ import annotations

import json
import logging
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

_MAX_TEXT: Final = 200
_EMPTY: Final = ("", b"")
_PRINT_TIMEOUT_S: Final = 0.2


def configure_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send everything of `level` and above to `stream` (stderr when None); `form` is auto, text or json."""
    target: TextIO | None = sys.stderr if stream is None else stream  # None where the process has none
    as_text = form == "text" or (form == "auto" and target is not None and target.isatty())
    handler = logging.NullHandler() if target is None else _Handler(target)
    handler.setFormatter(_TextFormatter() if as_text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.addLevelName(TRACE, "TRACE")
    # A line that cannot be written, for want of a reader or of disk, must not become more lines.
    logging.raiseExceptions = False
    # A chatty library at debug or trace hides what the server itself has to say.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


def print_line(line: str) -> None:
    """Have a line written to stdout, after all that was logged before. Waits for a moment, and not for its reader."""
    if sys.stdout is not None:  # None where the process has none
        _writer.write(line, sys.stdout)
        _writer.flush(_PRINT_TIMEOUT_S)


def print_notice(lines: Iterable[str]) -> None:
    """Have lines for a person written to stderr; nothing where that is no terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        for line in lines:
            _writer.write(line, sys.stderr)


def flush_logs(timeout_s: float = 1.0) -> None:
    """Wait until what was logged is written, but not for a reader that does not read."""
    _writer.flush(timeout_s)


def dropped_lines() -> int:
    """How many lines were lost, for want of a reader, or of room on the disk, since the start."""
    return _writer.dropped


def log_event(
    log: logging.Logger, level: int, event: str, fields: Mapping[str, Any], error: BaseException | None = None
) -> None:
    """Log an event. Fields that are None or empty are left out; `bytes` are shown as text, cut to 200 characters."""
    if log.isEnabledFor(level):
        shown = {name: _shown(value) for name, value in fields.items() if value is not None and value not in _EMPTY}
        log.log(level, "%s", event, extra={"fields": shown}, exc_info=error)


def _shown(value: object) -> object:
    """A value as JSON knows it, of bounded length."""
    if isinstance(value, bool | int | float):
        return value
    text = value[: 4 * _MAX_TEXT].decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields


class _Handler(logging.Handler):
    """Gives lines to the writer. `flush` is called by `logging` at the end of the process."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _writer.write(self.format(record), self._stream)
        except Exception:  # as in the standard library: to log is never an error of those who log
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
    """For people: one line, and after it the trace of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{_timestamp(record)} {_level_name(record):5} {record.name}: {_on_one_line(record.getMessage())}"]
        words += [f"{name}={_word(value)}" for name, value in _fields(record).items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    """For programs: one object a line. The names that every line has cannot be those of fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            **_fields(record),
            "time": _timestamp(record),
            "level": _level_name(record),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _word(value: object) -> str:
    """A value without blanks, or in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.isprintable() and not any(each in value for each in ' "=\\')
    return value if plain else json.dumps(_on_one_line(value), ensure_ascii=False)
