"""The process that parses and evaluates SELECTs, one after the other, as `frames` has it.

A hostile text can take any time and memory. The process bounds its memory; the server bounds the time and kills it.
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
from pathlib import Path
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


def serve(max_bytes: int, max_rows: int) -> None:
    """Answer on the socket that is stdin until its other end closes. An evaluation may take `max_bytes` of memory."""
    channel = socket.socket(fileno=0)
    threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
    plan_select(b"SELECT 1", ())  # loads what is imported late
    sys.setrecursionlimit(_MAX_DEPTH)
    # The server goes first: for the processor, and for being kept when memory is short.
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILLED_FIRST)
    _limit_memory(max_bytes)
    _Server(channel, max_rows).run()


def _end_with(channel: socket.socket) -> None:
    """End this process when the server has gone, even in the middle of a SELECT."""
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)
    poll.poll()
    os._exit(0)


def _limit_memory(max_bytes: int) -> None:
    """Bound the whole process: its memory of now, `max_bytes`, and something for Python."""
    limit_heap(max_bytes)
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = now_bytes + max_bytes + _PYTHON_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Server:
    def __init__(self, channel: socket.socket, max_rows: int) -> None:
        self._channel = channel
        self._reader = channel.makefile("rb", _BUFFER_BYTES)
        self._max_rows = max_rows
        self._values: list[str | UserError] = []  # the large values that came last
        self._first = 0  # the reference of the first of them
        self._ahead = 1

    def run(self) -> None:
        self._send(frames.READY)
        # Made while there is memory.
        last, ignored = _refusal(frames.MEMORY, ""), bytearray(4096)
        try:
            while True:
                self._answer()
        except MemoryError:
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            last = _refusal(frames.UNFORESEEN, f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})")
        self._channel.sendall(last)
        while self._channel.recv_into(ignored):  # the server sends all rows before it reads the refusal
            pass

    def _answer(self) -> None:
        try:
            text, parameters, now_ms = msgpack.decode(self._receive()[1])
            self._select(text, tuple(parameters), now_ms)
            answer = frames.frame(frames.DONE)
        except NoSuchTableError as error:
            answer = _refusal(frames.NO_TABLE, error.text)
        except StatementError as error:
            answer = _refusal(frames.INTERNAL if isinstance(error, InternalError) else frames.USER, error.text)
        except RecursionError:
            answer = _refusal(frames.USER, "SELECT is nested too deeply")
        self._channel.sendall(answer)

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
        """The text of a reference."""
        at = reference - self._first
        if not 0 <= at < len(self._values):
            # Rows are mostly read in their order: read further ahead each time that the next ones are wanted.
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


def _refusal(kind: str, text: str) -> bytes:
    return frames.frame(frames.REFUSED, msgpack.encode((kind, text)))


def _value(kind: bytes, content: bytes) -> str | UserError:
    if kind == frames.TOO_LARGE:
        return UserError(f"a value of more than {frames.MAX_VALUE_BYTES} bytes is too big for an expression")
    return "0x" + content.hex().upper() if kind == frames.BINARY else content.decode(errors="replace")
