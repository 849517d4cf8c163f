"""Logs: the standard library's, to stderr, one line an entry, as text for a terminal and as JSON otherwise."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

TRACE = 5

_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_NAMES = {number: name for name, number in _LEVELS.items()} | {logging.CRITICAL: "error"}


def configure_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send everything of `level` and above to `stream` (stderr when None); `form` is auto, text or json."""
    target = sys.stderr if stream is None else stream
    as_text = form == "text" or (form == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
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


def _level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {_level_name(record):5} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _timestamp(record),
            "level": _level_name(record),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
