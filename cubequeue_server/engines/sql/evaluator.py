"""Has SELECTs evaluated in one process, one after the other; `helper` is the code that runs there.

The process is started at the first need. It is killed when a SELECT is late or no longer wanted, and the next SELECT
gets a new one: no text can hold the server up or take its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from types import NoneType
from typing import Any, Final

from msgspec import msgpack

from cubequeue_server.connections import TABLE as CONNECTIONS
from cubequeue_server.connections import Connections
from cubequeue_server.engines.sql import frames
from cubequeue_server.engines.sql.fixed import no_such_table
from cubequeue_server.engines.sql.helper_process import HelperProcess
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, SYSTEM_TABLES, TABLES
from cubequeue_server.observe.counters import Counters
from cubequeue_server.requests.ask import settle
from protocol.cells import hex_text
from storage.asking import Outcome
from storage.engine import Inspectable
from storage.errors import InternalError, StatementError, UserError
from storage.vocabulary import Binary, Cell, Columns, ColumnType, OtherSql, Result, Row

_log = logging.getLogger(__name__)

# Of text and parameters.
MAX_SELECT_BYTES: Final = 256 << 10
MAX_ROWS: Final = 200_000
# To put a larger result together for the wire would hold up all others.
MAX_RESULT_BYTES: Final = 32 << 20
# To parse a text, and to evaluate it when it reads no table of the store.
QUICK_LIMIT_S: Final = 2.0
_SLICE_S: Final = 0.001
_PAUSE_S: Final = 0.001
_VALUES_AT_ONCE_BYTES: Final = 256 << 10

_encode: Final = msgpack.Encoder(enc_hook=bytes).encode  # for Binary, which is bytes
_decode_rows: Final = msgpack.Decoder(list[tuple[Any, ...]]).decode


class _EndedError(Exception):
    """A SELECT after which its process has to end; `cause` is the label of the metric that counts it."""

    def __init__(self, cause: str, error: StatementError) -> None:
        super().__init__(error.text)
        self.cause = cause
        self.error = error


class Evaluator:
    """Evaluates one SELECT after the other.

    `tables` are those of the store, and `connections` are a table, too. A SELECT over tables may take `time_limit_s`,
    an evaluation `max_bytes` of memory.
    """

    def __init__(
        self, tables: Inspectable, time_limit_s: float, max_bytes: int, counters: Counters, connections: Connections
    ) -> None:
        self._tables = tables
        self._connections = connections
        self._time_limit_s = time_limit_s
        self._max_bytes = max_bytes
        self._counters = counters
        self._turn = asyncio.Lock()
        self._current: HelperProcess | None = None
        self._has_read = False  # whether the current SELECT reads tables of the store

    async def select(self, statement: OtherSql, now_ms: int) -> Outcome:
        """The result, or the error, once everything that was read for it is durable. Raises StatementError, too.

        Cancelling it ends the evaluation.
        """
        parameters = statement.parameters or ()
        size = len(statement.text) + sum(len(each) for each in parameters if isinstance(each, bytes))
        if size > MAX_SELECT_BYTES:
            raise UserError(f"SELECT of {size} bytes exceeds the maximum of {MAX_SELECT_BYTES} bytes")
        if any(isinstance(each, Binary) for each in parameters):
            raise UserError("binary parameters are not supported in SELECT")
        async with self._turn:
            helper = await self._ready_helper()
            losses = self._tables.losses
            self._has_read = False
            outcome = await self._outcome(helper, (statement.text, parameters, now_ms))
            has_read = self._has_read
        if has_read:  # an error may tell of what was read, too
            await settle(self._tables, losses)
        return outcome

    def stop(self) -> None:
        """End the process."""
        current, self._current = self._current, None
        if current is not None:
            current.end()

    # The process

    async def _ready_helper(self) -> HelperProcess:
        """The process, a new one if there is none."""
        helper = self._current
        try:
            if helper is None:
                self._counters.select_helper_starts += 1
                helper = self._current = HelperProcess(self._max_bytes, MAX_ROWS, self._on_exit)
            await helper.get_ready()
        except (OSError, EOFError) as error:
            self.stop()
            _log.error("no process to evaluate SELECTs could be started: %r", error)
            raise UserError("SELECT cannot be evaluated: no process could be started for it") from None
        return helper

    def _on_exit(self, helper: HelperProcess) -> None:
        if helper.is_ready:
            self._end(helper, "died", helper.status)

    def _end(self, helper: HelperProcess, cause: str, reason: str) -> None:
        """Kill a process. Only the first cause is logged and counted."""
        helper.end()
        if helper is self._current:
            self._current = None
            name = f"select_ended_{cause}"
            setattr(self._counters, name, getattr(self._counters, name) + 1)
            level = logging.INFO if cause == "given_up" else logging.WARNING
            _log.log(level, "the process that evaluates SELECTs was ended: %s", reason)

    @property
    def _memory_limit(self) -> str:
        return f"{self._max_bytes >> 20} MiB of memory (CUBEQUEUE_SELECT_MAX_MEMORY)"

    # One SELECT

    async def _outcome(self, helper: HelperProcess, asked: tuple[Any, ...]) -> Result | StatementError:
        began_s = time.monotonic()
        helper.is_busy = True
        try:
            return await self._converse(helper, asked)
        except StatementError as error:
            return error.with_traceback(None)
        except _EndedError as ended:
            self._end(helper, ended.cause, ended.error.text)
            return ended.error
        except (EOFError, ConnectionError):
            helper.end()
            await helper.exited.wait()
            died = f"the process that evaluates it died ({helper.status})"
            return UserError(f"SELECT was ended: {died}. It may take {self._memory_limit}")
        finally:
            self._counters.select_seconds += time.monotonic() - began_s
            if helper.is_busy:
                self._end(helper, "given_up", "nobody waits for its SELECT any more")

    async def _converse(self, helper: HelperProcess, asked: tuple[Any, ...]) -> Result:
        """The result. Raises StatementError when the text is refused, and _EndedError."""
        async with _limited(QUICK_LIMIT_S, "SELECT took longer than {:g} s to parse"):
            await helper.send(frames.frame(frames.SELECT, _encode(asked)))
            _, content = await self._receive(helper)
        columns, reads, references = msgpack.decode(content)
        limit = _limited(QUICK_LIMIT_S, "SELECT without a table took longer than {:g} s")
        self._has_read = any(map(_is_read, reads))
        if self._has_read:
            limit = _limited(self._time_limit_s, "SELECT took longer than {:g} s (CUBESTORE_QUERY_TIMEOUT)")
        async with limit:
            large = await self._send_tables(helper, reads)
            rows = await self._receive_rows(helper, frozenset(references), large)
        return Result(Columns(*((name, ColumnType(type_)) for name, type_ in columns)), rows)

    async def _send_tables(self, helper: HelperProcess, reads: Mapping[str, list[str]]) -> list[Cell]:
        """Send the columns that are read. Large values among them are not sent but returned."""
        large: list[Cell] = []
        for number, (table, names) in enumerate(reads.items()):
            if not _is_read(table):
                continue
            of_all = list(TABLES[table])
            places = [(of_all.index(name), name in LARGE_COLUMNS) for name in names]
            pause = _Pause()
            async for rows in self._read(table):
                picked = [_picked(row, places, large) for row in rows]
                await helper.send(frames.frame(frames.ROWS, _encode((number, picked))))
                await pause.when_due()
        await helper.send(frames.frame(frames.END))
        return large

    def _read(self, table: str) -> AsyncIterator[list[Row]]:
        if table == CONNECTIONS:
            return self._connections.read(self._tables)
        return self._tables.read_table(SYSTEM_TABLES[table])

    async def _receive_rows(
        self, helper: HelperProcess, references: frozenset[int], large: list[Cell]
    ) -> list[tuple[Cell, ...]]:
        rows: list[tuple[Cell, ...]] = []
        size, pause = 0, _Pause()
        while True:
            kind, content = await self._receive(helper)
            if kind == frames.DONE:
                return await _unmixed(rows, references) if Binary in map(type, large) else rows
            if kind == frames.WANT:
                await _send_values(helper, large, *msgpack.decode(content))
            else:
                some: list[tuple[Cell, ...]] = _decode_rows(content)
                size += len(content)
                if references:
                    some = [_resolved(row, references, large) for row in some]
                    size += sum(len(value) for row in some for at in references if isinstance(value := row[at], bytes))
                rows += some
                if size > MAX_RESULT_BYTES:
                    text = f"SELECT of more than {MAX_RESULT_BYTES} bytes is not supported"
                    raise _EndedError("size", UserError(f"{text}, ask for fewer columns, or rows with LIMIT"))
            await pause.when_due()

    async def _receive(self, helper: HelperProcess) -> tuple[bytes, bytes | bytearray]:
        """The next frame; a refusal is raised."""
        kind, content = await helper.receive()
        if kind != frames.REFUSED:
            helper.is_busy = kind != frames.DONE
            return kind, content
        why, text = msgpack.decode(content)
        if why == frames.MEMORY:
            raise _EndedError("memory", UserError(f"SELECT needs too much memory: it may take {self._memory_limit}"))
        if why == frames.UNFORESEEN:
            self._counters.internal_errors += 1
            _log.error("a SELECT failed unexpectedly: %s", text)
            error = InternalError(f"unexpected {text.partition(':')[0]}, see the log of cubequeue")
            raise _EndedError("failed", error)
        helper.is_busy = False
        if why == frames.NO_TABLE:
            raise no_such_table(text)
        raise (InternalError if why == frames.INTERNAL else UserError)(text)


def _is_read(table: str) -> bool:
    """Whether a table has rows that are read here; those of information_schema have none."""
    return table == CONNECTIONS or table in SYSTEM_TABLES


class _Pause:
    """Lets others have their turn after each slice of time."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self._until_s = time.monotonic() + _SLICE_S

    async def when_due(self) -> None:
        if time.monotonic() >= self._until_s:
            await asyncio.sleep(_PAUSE_S)
            self._until_s = time.monotonic() + _SLICE_S


@contextlib.asynccontextmanager
async def _limited(limit_s: float, text: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise _EndedError("time", UserError(text.format(limit_s))) from None


def _picked(row: Row, places: list[tuple[int, bool]], large: list[Cell]) -> list[Cell]:
    """The cells to send of a row; a large value is added to `large`, and its place there is sent."""
    cells: list[Cell] = []
    for at, is_large in places:
        cell = row[at]
        if is_large and cell is not None:
            large.append(cell)
            cell = len(large) - 1
        cells.append(cell)
    return cells


def _resolved(row: tuple[Any, ...], references: frozenset[int], large: list[Cell]) -> tuple[Cell, ...]:
    return tuple(large[cell] if at in references and cell is not None else cell for at, cell in enumerate(row))


async def _unmixed(rows: list[tuple[Cell, ...]], references: frozenset[int]) -> list[tuple[Cell, ...]]:
    """The rows, with digits for the binary values of a column that has texts, too: a column has one type in Arrow."""
    pause = _Pause()
    kinds: dict[int, set[type]] = {at: {NoneType} for at in references}
    for row in rows:
        for at, kind in kinds.items():
            kind.add(type(row[at]))
        await pause.when_due()
    mixed = {at for at, kind in kinds.items() if len(kind) > 2}  # NULL and two more
    if not mixed:
        return rows
    texts: list[tuple[Cell, ...]] = []
    for row in rows:
        texts.append(
            tuple(hex_text(cell) if at in mixed and type(cell) is Binary else cell for at, cell in enumerate(row))
        )
        await pause.when_due()
    return texts


async def _send_values(helper: HelperProcess, large: list[Cell], first: int, count: int) -> None:
    size, parts = 0, []
    for value in large[first : first + count]:
        assert isinstance(value, bytes)
        if len(value) > frames.MAX_VALUE_BYTES:
            parts.append(frames.frame(frames.TOO_LARGE))
            continue
        parts += [frames.HEAD.pack(frames.BINARY if isinstance(value, Binary) else frames.TEXT, len(value)), value]
        size += len(value)
        if size > _VALUES_AT_ONCE_BYTES:
            break
    await helper.send(*parts, frames.frame(frames.END))
