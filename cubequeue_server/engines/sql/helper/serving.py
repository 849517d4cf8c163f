"""The process that parses and evaluates SELECTs, one after the other, as `frames` has it.

A hostile text can make it take any time and memory. So it bounds its own memory, and the server ends it when its time
is over.
"""

from __future__ import annotations

import functools
import os
import resource
import select
import socket
import sys
import threading
import traceback
from contextlib import closing, suppress
from typing import Any, Final

from msgspec import msgpack

from cubequeue_server.engines.sql import frames
from cubequeue_server.engines.sql.helper.evaluation import Evaluation, limit_heap
from cubequeue_server.engines.sql.helper.queries import NoSuchTableError, plan_select
from storage.errors import InternalError, StatementError, UserError

_MAX_PLANS: Final = 256
_MAX_REMEMBERED_BYTES: Final = 4_096
_MAX_DEPTH: Final = 10_000  # of calls: sqlglot takes some 24 for a level of brackets
# What Python takes at most beside SQLite: the parser's tree, rows on their way.
_PYTHON_BYTES: Final = 32 << 20
_MAX_READ_AHEAD: Final = 256
_BUFFER_BYTES: Final = 256 << 10
_NICENESS: Final = 10
_KILLED_FIRST: Final = "500"

_remembered: Final = functools.lru_cache(_MAX_PLANS)(plan_select)


def serve(descriptor: int, max_bytes: int, max_rows: int) -> None:
    """Answer until the other end closes. An evaluation takes `max_bytes` of memory at most."""
    channel = socket.socket(fileno=descriptor)
    _end_with(channel)
    plan_select(b"SELECT 1", ())  # what is imported late is there then
    sys.setrecursionlimit(_MAX_DEPTH)
    _yield_to_others()
    _limit_memory(max_bytes)
    _Server(channel, max_rows).run()


def _end_with(channel: socket.socket) -> None:
    """End this process when the server has gone, whatever it is at."""
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)

    def watch() -> None:
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _yield_to_others() -> None:
    """The server goes first: for the processor, and for being kept when memory is short."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(_KILLED_FIRST)


def _limit_memory(max_bytes: int) -> None:
    """Bound the whole process: what it has now, `max_bytes`, and something for Python."""
    limit_heap(max_bytes)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = now_bytes + max_bytes + _PYTHON_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Server:
    def __init__(self, channel: socket.socket, max_rows: int) -> None:
        self._channel = channel
        self._reader = channel.makefile("rb", _BUFFER_BYTES)
        self._max_rows = max_rows
        self._values: list[str | UserError] = []  # large ones that were sent last
        self._first = 0  # the reference of the first of them
        self._ahead = 1

    def run(self) -> None:
        self._send(frames.READY)
        no_memory = frames.frame(frames.REFUSED, msgpack.encode((frames.MEMORY, "")))  # made while there is some
        while True:
            try:
                refusal = self._refusal()
                self._send(*((frames.DONE,) if refusal is None else (frames.REFUSED, refusal)))
            except MemoryError:
                self._channel.sendall(no_memory)

    def _refusal(self) -> tuple[str, str] | None:
        """Answer a SELECT but for its end; kind and text of what made it impossible. Raises MemoryError."""
        try:
            text, parameters, now_ms = msgpack.decode(self._receive()[1])
            self._select(text, tuple(parameters), now_ms)
        except MemoryError:
            raise
        except StatementError as error:
            kind = frames.INTERNAL if isinstance(error, InternalError) else frames.USER
            return frames.NO_TABLE if isinstance(error, NoSuchTableError) else kind, error.text
        except RecursionError:
            return frames.USER, "SELECT is nested too deeply"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            return frames.UNFORESEEN, f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        return None

    def _select(self, text: bytes, parameters: tuple[Any, ...], now_ms: int) -> None:
        is_short = not parameters and len(text) <= _MAX_REMEMBERED_BYTES
        plan = (_remembered if is_short else plan_select)(text, parameters)
        self._send(frames.PLAN, (plan.columns, plan.reads, plan.references))
        self._values.clear()
        with closing(Evaluation(plan, self._large_value)) as evaluation:
            while (received := self._receive())[0] == frames.ROWS:
                evaluation.insert(*msgpack.decode(received[1]))
            count = 0
            for rows in evaluation.rows(now_ms):
                count += len(rows)
                if count > self._max_rows:
                    limit = f"SELECT of more than {self._max_rows} rows is not supported"
                    raise UserError(f"{limit}, ask for fewer with LIMIT")
                self._send(frames.ROWS, rows)

    def _large_value(self, reference: int) -> str:
        """The text that a reference stands for."""
        at = reference - self._first
        if not 0 <= at < len(self._values):
            # Rows are mostly read in their order: more is asked for each time that the next ones are.
            self._ahead = min(2 * self._ahead, _MAX_READ_AHEAD) if at == len(self._values) else 1
            self._send(frames.WANT, (reference, self._ahead))
            self._first, at, self._values = reference, 0, []
            while (received := self._receive())[0] != frames.END:
                self._values.append(_value(*received))
        value = self._values[at]
        if isinstance(value, UserError):
            raise value
        return value

    def _send(self, kind: bytes, content: Any = None) -> None:
        self._channel.sendall(frames.frame(kind, b"" if content is None else msgpack.encode(content)))

    def _receive(self) -> tuple[bytes, bytes]:
        kind, length = frames.HEAD.unpack(self._exactly(frames.HEAD.size))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content: bytes = self._reader.read(count)
        if len(content) < count:
            os._exit(0)
        return content


def _value(kind: bytes, content: bytes) -> str | UserError:
    if kind == frames.TOO_LARGE:
        return UserError(f"a value of more than {frames.MAX_VALUE_BYTES} bytes is too big for an expression")
    return "0x" + content.hex().upper() if kind == frames.BINARY else content.decode(errors="replace")
