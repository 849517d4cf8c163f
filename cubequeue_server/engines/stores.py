"""The store of one server process: in memory, or with a journal in the data directory."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cubequeue_server.net.outbox import Outbox
from cubequeue_server.observe.logs import flush_logs
from cubequeue_server.requests.ask import Ask
from cubequeue_server.settings.resolve import Settings
from cubequeue_server.turns import Turns as LoopTurns
from storage.asking import Turns
from storage.engine import Store
from storage.keys import first_id
from storage.memory import MemoryStore

# Beside whatever else is in the data directory, such as what CubeStore left there.
JOURNAL_FOLDER = "cubequeue"
EXIT_JOURNAL_FAILED = 1

_log = logging.getLogger("cubequeue")


class CannotOpenError(Exception):
    """A journal or a shared store that cannot be used; the text is the line that the start ends with."""


class JournalFailedError(Exception):
    """A journal whose last rows could not be written or synced at a stop."""


@dataclass(slots=True, frozen=True)
class OpenStore:
    """A store, what ends it, why its writes are refused now, if they are, and how long it took to open."""

    store: Store
    close: Callable[[], None]
    failure: Callable[[], str | None]
    opened_ms: int


def open_store(settings: Settings, now_ms: Callable[[], int], outbox: Outbox) -> OpenStore:
    """Open the store that the settings ask for. To be called in the event loop. Raises `CannotOpenError`.

    In memory the first id is above any that a start before can have given: a client that waits for a result across
    a restart never gets another query's (decisions, "Ids, time, texts").
    """
    turns = LoopTurns(outbox).add
    draw = random.Random(random.SystemRandom().getrandbits(64)).random  # noqa: S311  # it decides evictions, no secrets
    if settings.durability == "memory":
        store = MemoryStore(
            settings.queue, settings.cache, settings.answers, first_id(now_ms()), draw, Ask, turns=turns
        )
        return OpenStore(store, _nothing_to_close, _never_fails, 0)
    return _open_journaled(settings, now_ms, draw, outbox, turns)


def _open_journaled(
    settings: Settings, now_ms: Callable[[], int], draw: Callable[[], float], outbox: Outbox, turns: Turns
) -> OpenStore:
    from storage.journal.database import Database  # noqa: PLC0415  # 20 ms and 10 MB that memory mode need not pay
    from storage.journal.errors import JournalError  # noqa: PLC0415
    from storage.journal.host import Host  # noqa: PLC0415
    from storage.journal.store import Durability, JournaledStore  # noqa: PLC0415
    from storage.journal.sync import Syncer  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    began_s = time.monotonic()

    def call_later(delay_ms: int, callback: Callable[[], None]) -> None:
        loop.call_later(delay_ms / 1000, callback)

    def in_thread(work: Callable[[], None], then: Callable[[], None]) -> None:
        loop.run_in_executor(None, work).add_done_callback(lambda _: then())

    durability = Durability(settings.durability)
    cache_durability = Durability.MEMORY if settings.cache_durability == "memory" else durability
    directory = Path(settings.data_dir) / JOURNAL_FOLDER
    try:
        database = Database(directory, look_first=True)
        if database.cut is not None:
            _log.warning("%s", database.cut)
        syncer = Syncer(directory, lambda seq, position: store.synced(seq, position), _end)  # noqa: PLW0108  # there is no store yet
        store = JournaledStore(
            database,
            settings.queue,
            settings.cache,
            settings.answers,
            Host(loop.call_soon, call_later, in_thread, outbox.batch, now_ms, draw, _end, Ask, turns),
            syncer.ask,
            durability,
            cache_durability,
        )
    except JournalError as error:
        raise CannotOpenError(str(error)) from error
    loop.add_reader(syncer.fileno(), syncer.on_readable)

    def close() -> None:
        loop.remove_reader(syncer.fileno())
        try:
            store.close()
        except JournalError as error:
            raise JournalFailedError(str(error)) from error
        finally:
            syncer.close()

    return OpenStore(store, close, lambda: store.failure, int((time.monotonic() - began_s) * 1000))


def _end(reason: str) -> None:
    """What the disk holds is unknown: only a new start can tell, from what it finds there."""
    _log.critical("%s: the server ends, so that no more is promised than the disk holds", reason)
    flush_logs()
    os._exit(EXIT_JOURNAL_FAILED)


def _nothing_to_close() -> None:
    """Memory goes with the process."""


def _never_fails() -> str | None:
    return None
