"""How long a start takes to recover the items of a journal."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import NamedTuple, NoReturn

from storage.journal import rows
from storage.journal.database import Database
from storage.journal.host import Host
from storage.journal.recorder import Group
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits, CacheLimits, QueueLimits

_ITEMS_A_GROUP = 10
_PAYLOAD_BYTES = 2_000


class Recovery(NamedTuple):
    """Seconds by the clock, and of this thread's processor time, which other processes do not lengthen."""

    items: int
    wall_s: float
    cpu_s: float


def make_journal(directory: Path, items: int) -> None:
    """A journal of so many items with payloads of 2 KB in 50 queues, written as a server would."""
    now_ms = time.time_ns() // 1_000_000
    database, random = Database(directory), Random(1)
    database.wait_when_busy()
    database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))
    for first in range(1, items + 1, _ITEMS_A_GROUP):
        puts: list[tuple[bytes, bytes]] = []
        for id_ in range(first, first + _ITEMS_A_GROUP):
            payload = random.randbytes(_PAYLOAD_BYTES // 2).hex().encode()
            puts.append((rows.chunk_key(id_, 0), payload))
            stored = rows.stored(payload, lambda _, id_=id_: id_)  # type: ignore[misc]
            item = rows.ItemRow(b"q%d:%d" % (id_ % 50, id_), stored, id_ % 5, now_ms, None, b"process", False, None)
            puts.append((rows.ITEM + id_.to_bytes(8, "big"), rows.encode(item)))
        database.write(Group(first, [], [], puts, []))
    database.close()


def recover(directory: Path) -> Recovery:
    """Open it as a start does; it is closed again."""

    def call_soon(_callback: object) -> None:
        """Nothing is written."""

    def never(*_: object) -> NoReturn:
        raise AssertionError("nothing fails or waits here, and nothing is done in a thread")

    host = Host(call_soon, never, never, never, lambda: time.time_ns() // 1_000_000, Random(0).random, never, never)
    start, start_cpu = time.perf_counter(), time.thread_time()
    database = Database(directory, look_first=True)
    limits = (QueueLimits(), CacheLimits(), AnswerLimits())
    store = JournaledStore(database, *limits, host, None, Durability.RELAXED, Durability.RELAXED)
    recovery = Recovery(store.gauges()["queue_items"], time.perf_counter() - start, time.thread_time() - start_cpu)
    database.close()
    return recovery
