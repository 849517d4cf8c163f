"""One server process from its settings to its end: store, listeners, signals, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvloop

from cubequeue_server.access.browsers import AllowedHosts
from cubequeue_server.access.reloading import Access, AccessError
from cubequeue_server.client_names import ClientNames
from cubequeue_server.connections import Connections
from cubequeue_server.engines.shared_store.opening import open_shared_store
from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.engines.stores import CannotOpenError, JournalFailedError, OpenStore, open_store
from cubequeue_server.engines.upstream.opening import OpenUpstream, open_upstream
from cubequeue_server.garbage_collection import GarbageCollection
from cubequeue_server.memory_return import MemoryReturn
from cubequeue_server.mysql import listener
from cubequeue_server.mysql.listener import MysqlListener
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.observe import status
from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.guard_notice import GuardNotice
from cubequeue_server.observe.logs import configure_logs, flush_logs, log_event, print_line, print_notice
from cubequeue_server.observe.start_notice import notice_lines
from cubequeue_server.observe.status import NotReadyError, StatusServer, probe
from cubequeue_server.options import ServerOptions
from cubequeue_server.process_limits import Sockets, open_standard_files, raise_file_limit
from cubequeue_server.requests.ask import Ask
from cubequeue_server.router import Router
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import Loaded, Settings
from cubequeue_server.settings.upstream import TargetError
from cubequeue_server.settings.values import Endpoint
from cubequeue_server.version import __version__
from storage.asking import ANYBODY
from storage.engine import Engine
from storage.vocabulary import OtherSql

if TYPE_CHECKING:
    from cubequeue_server.observe.pages import Pages

EXIT_STOPPED = 0
EXIT_CANNOT_LISTEN = EXIT_CANNOT_OPEN = EXIT_CANNOT_CLOSE = 1
EXIT_BAD_SETTING = 2
EXIT_INTERRUPTED = 130

# The whole stop takes at most this long; the server's own part of it ends a little earlier.
STOP_TIMEOUT_S = 5.0
_SERVER_STOP_TIMEOUT_S = 4.0
_LAST_WORDS_S = 0.2

# What the store holds.
_BYTE_GAUGES = ("queue_bytes", "queue_result_bytes", "cache_bytes", "answer_bytes")

_READ_AHEAD_BYTES = 1024 * 1024  # beyond a message, of those that follow

_log = logging.getLogger("cubequeue")
_PROBE_STATEMENT = OtherSql(b"SELECT 1")


class CannotListenError(Exception):
    """An address that cannot be had; the text is the line that the start ends with."""


def serve(loaded: Loaded) -> int:
    """Run until a signal says stop; returns the exit code."""
    _exit_at_once_on_sigterm()
    open_standard_files()
    configure_logs(loaded.settings.log_level, loaded.settings.log_format)
    settings = loaded.settings
    sockets, file_warning = _file_limit(settings)
    for warning in [*loaded.warnings, *([file_warning] if file_warning else [])]:
        _log.warning("%s", warning)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, sockets))


def _file_limit(settings: Settings) -> tuple[Sockets, str | None]:
    """A client of a server with a CubeStore behind has a socket to that as well, and so has an upload."""
    of_client = 1 if settings.upstream is None else 2
    uploads = 0 if settings.upstream is None else settings.upstream.max_uploads
    return raise_file_limit(
        settings.max_connections,
        of_connection=of_client,
        has_journal=settings.durability != "memory",
        other_sockets=(0 if settings.status is None else status.MAX_SOCKETS)
        + of_client * (uploads + (0 if settings.mysql is None else listener.MAX_SOCKETS)),
    )


async def _run(settings: Settings, sockets: Sockets) -> int:
    try:
        access = Access(settings.access)
    except AccessError as error:
        _complain(error)
        return EXIT_BAD_SETTING
    try:
        upstream = open_upstream(settings)
    except TargetError as error:
        _complain(error)
        return EXIT_BAD_SETTING
    try:
        outbox = Outbox(asyncio.get_running_loop())
        if settings.store is None:
            opened = open_store(settings, now_ms, outbox)
        else:
            opened = await open_shared_store(settings, settings.store, outbox)
    except CannotOpenError as error:
        _complain(error)
        return EXIT_CANNOT_OPEN
    return await _Process(settings, sockets, access, opened, outbox, upstream).run()


def _complain(error: Exception) -> None:
    """The one line that a failed start ends with, at any log level."""
    flush_logs()
    print(f"cubequeue: {error}", file=sys.stderr, flush=True)  # noqa: T201


def _exit_at_once_on_sigterm() -> None:
    """Until the loop handles it: as process 1 a signal without a handler would be ignored."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        flush_logs(_LAST_WORDS_S)
        os._exit(EXIT_STOPPED)

    signal.signal(signal.SIGTERM, leave)


def now_ms() -> int:
    """The wall clock in whole milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def server_options(settings: Settings, sockets: Sockets) -> ServerOptions:
    """The settings that are the server's, within what the process has files for."""
    return ServerOptions(
        host=settings.http.host,
        port=settings.http.port,
        announce_version=settings.announce_version or "",
        allowed_origins=frozenset(origin.lower() for origin in settings.access.allowed_origins),
        max_message_bytes=settings.transport_max_message_size,
        max_frame_bytes=settings.transport_max_frame_size,
        max_unfinished_bytes=max(
            settings.unfinished_max_bytes, settings.transport_max_message_size + _READ_AHEAD_BYTES
        ),
        max_unread_bytes=settings.unread_max_bytes,
        max_handshakes=sockets.handshakes,
        max_connections=sockets.connections,
        max_connections_per_user=settings.max_connections_per_user,
        processing_kept_s=settings.join_in_flight_ms / 1000,
        stop_timeout_s=_SERVER_STOP_TIMEOUT_S,
        slow_statement_ms=settings.slow_statement_ms,
    )


class _Process:
    """The parts of a running server, in the order in which they start and stop."""

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        settings: Settings,
        sockets: Sockets,
        access: Access,
        opened: OpenStore,
        outbox: Outbox,
        behind: OpenUpstream | None,
    ) -> None:
        self._settings = settings
        self._access = access
        self._opened = opened
        self._store = opened.store
        counters = Counters()
        select_limits = settings.query_timeout_ms / 1000, settings.select_max_bytes
        connections = Connections(ClientNames(settings.client_names, by_dns=settings.client_dns))
        sql = SqlEngine(Ask, self._store, *select_limits, counters=counters, connections=connections)
        self._behind = behind
        self._upstream = None if behind is None else behind.upstream
        self._sql = sql if behind is None else behind.routed(sql)
        self._server = Server(
            server_options(settings, sockets),
            Router(self._store, self._sql),
            outbox,
            time.time_ns,
            credentials=access.credentials,
            tls=access.tls,
            counters=counters,
            connections=connections,
            upstream=self._upstream,
        )
        self._pages: Pages | None = None
        self._status = self._status_server()
        self._mysql = self._mysql_listener()
        self._garbage_collection = GarbageCollection(self._store.gauges)
        self._guard_notice = GuardNotice(self._store.gauges)
        self._memory_return = MemoryReturn(self._held_bytes)
        self._stop_asked = asyncio.Event()

    def _status_server(self) -> StatusServer | None:
        if self._settings.status is None:
            return None
        probes = {"/livez": probe(lambda: _answers_sql(self._sql)), "/readyz": probe(self._check_store)}
        return StatusServer(
            self._settings.status,
            probes,
            self._access.credentials,
            self._access.tls,
            hosts=AllowedHosts(self._settings.access.allowed_hosts),
            counters=self._server.counters,
            more_follow=True,
        )

    def _held_bytes(self) -> int:
        gauges = self._store.gauges()
        return sum(gauges.get(name, 0) for name in _BYTE_GAUGES)

    def _may_cancel(self) -> bool:
        """Whether people who look at the page may cancel items: never those whom nobody asked who they are."""
        return self._settings.status_cancel and self._access.credentials.are_demanded

    def _mysql_listener(self) -> MysqlListener | None:
        if self._settings.mysql is None:
            return None
        max_packet_bytes = self._settings.transport_max_message_size
        access = self._access
        return MysqlListener(self._settings.mysql, self._server, access.credentials, max_packet_bytes, access.tls)

    async def run(self) -> int:
        self._handle_signals()
        self._memory_return.start()
        try:
            await self._listen()
        except CannotListenError as error:
            _complain(error)
            await self._stop()
            return EXIT_CANNOT_LISTEN
        self._announce()
        self._import_the_rest()
        self._guard_notice.start()
        await self._stop_asked.wait()
        is_closed = await self._stop()
        _log.info("stopped")
        return EXIT_STOPPED if is_closed else EXIT_CANNOT_CLOSE

    async def _listen(self) -> None:
        if self._upstream is not None:
            self._upstream.start()
        await _listening(self._server.start, self._settings.http, "CUBESTORE_HTTP_PORT")
        if self._status is not None and self._settings.status is not None:
            await _listening(self._status.start, self._settings.status, "CUBESTORE_STATUS_PORT")
        if self._mysql is not None and self._settings.mysql is not None:
            await _listening(self._mysql.start, self._settings.mysql, "CUBESTORE_PORT")

    def _check_store(self) -> None:
        """Raise when statements cannot be answered."""
        self._store.gauges()
        failure = self._opened.failure() or (None if self._upstream is None else self._upstream.absence)
        if failure is not None:
            raise NotReadyError(failure)

    def _announce(self) -> None:
        listeners = {"ws": Endpoint(*self._server.address[:2])}
        if self._status is not None:
            listeners["status"] = self._status.address
            self._server.announce_status_port(self._status.address.port)
        if self._mysql is not None:
            listeners["mysql"] = self._mysql.address
        words = " ".join(f"{name}={listeners.get(name, 'off')}" for name in ("ws", "status", "mysql"))
        print_line(f"cubequeue {__version__} listening {words}")
        log_event(_log, logging.INFO, "started", self._started_fields(listeners))
        if self._settings.log_format != "json":  # which programs read, on a terminal too
            print_notice(notice_lines(self._settings, listeners))

    def _started_fields(self, listeners: Mapping[str, Endpoint]) -> dict[str, Any]:
        """Everything that a reader of the log wants to know of a start."""
        settings, gauges = self._settings, self._store.gauges()
        return {
            "version": __version__,
            **listeners,
            "durability": settings.durability,
            "data_dir": settings.data_dir,
            "users": settings.access.demands_credentials,
            "tls": bool(settings.access.tls_cert),
            "max_items": settings.queue.max_items,
            "queue_max_bytes": settings.queue.max_bytes,
            "cache_max_bytes": settings.cache.max_bytes,
            "answers_max_bytes": settings.answers.max_bytes,
            "history_max_bytes": settings.queue.history.max_bytes,
            "max_connections": settings.max_connections,
            "recovered_items": gauges["queue_items"],
            "recovered_results": gauges["queue_results"],
            "recovered_cache_keys": gauges["cache_keys"],
            "recovered_answers": gauges.get("answers", 0),
            "opened_ms": self._opened.opened_ms,
        }

    def _import_the_rest(self) -> None:
        """Import in a thread what the first requests need not, while they are answered: the pages.

        Whatever becomes of that, garbage is collected from then on: what was imported is frozen with the rest.
        """
        loop = asyncio.get_running_loop()

        def do_import() -> None:
            opening: Callable[[], None] = self._give_up_pages
            try:
                module = importlib.import_module("cubequeue_server.observe.pages")
                opening = partial(self._open_pages, module.Pages)
            except Exception:
                _log.exception("metrics and the live page could not be loaded")
            finally:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(opening)
                    loop.call_soon_threadsafe(self._garbage_collection.start)

        try:
            threading.Thread(target=do_import, name="late-imports", daemon=True).start()
        except RuntimeError as error:  # the machine, or the container, has no room for a thread
            _log.error("%s: metrics and the live page are loaded without one", error)  # the trace tells nothing more
            do_import()

    def _give_up_pages(self) -> None:
        """Requests for pages are answered with 404 instead of waiting."""
        if self._status is not None:
            self._status.add({}, {})

    def _open_pages(self, make: type[Pages]) -> None:
        if self._stop_asked.is_set():
            return
        self._pages = make(
            self._store,
            self._server,
            now_ms,
            may_cancel=self._may_cancel,
            settings=self._settings,
            failure=self._opened.failure,
            upstream=None if self._upstream is None else self._upstream.counters,
        )
        if self._status is not None:
            self._status.add(self._pages.routes, self._pages.actions)

    async def _stop(self) -> bool:
        """Whether everything that was answered is where the mode has it."""
        self._garbage_collection.stop()
        self._guard_notice.stop()
        self._memory_return.stop()
        if self._pages is not None:
            self._pages.stop()
        self._access.credentials.close()
        steps = [part.stop() for part in (self._server, self._status, self._mysql) if part is not None]
        try:
            await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), STOP_TIMEOUT_S - 0.5)
        except TimeoutError:
            _log.warning("not everything could be closed in time")
        if self._upstream is not None:
            self._upstream.stop()
        try:
            self._opened.close()
        except JournalFailedError as error:
            _log.error("%s", error)
            return False
        return True

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._ask_to_stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if self._access.has_files:  # else it ends the process, as when a terminal is closed
            loop.add_signal_handler(signal.SIGHUP, self._access.reload)

    def _interrupt(self) -> None:
        if self._stop_asked.is_set():
            flush_logs(_LAST_WORDS_S)
            os._exit(EXIT_INTERRUPTED)
        self._ask_to_stop(signal.SIGINT)

    def _ask_to_stop(self, by: signal.Signals) -> None:
        if not self._stop_asked.is_set():
            log_event(_log, logging.INFO, "stopping", {"signal": by.name})
        self._stop_asked.set()


async def _listening(start: Callable[[], Coroutine[None, None, None]], endpoint: Endpoint, variable: str) -> None:
    try:
        await start()
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno in errno.errorcode else str(error)
        raise CannotListenError(f"cannot listen on {endpoint} ({variable}): {reason}") from error


def _answers_sql(sql: Engine) -> None:
    sql.execute(_PROBE_STATEMENT, ANYBODY, None, now_ms())
