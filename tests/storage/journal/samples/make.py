"""Writes the sample of the current schema: `python -m tests.storage.journal.samples.make`.

Run once, when a schema is new, and never again for it: the sample is what the first version with it wrote.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from storage.asking import Caller
from storage.journal import rows
from storage.journal.backup import backup
from storage.journal.database import Database
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.vocabulary import (
    Binary,
    CacheIncr,
    CacheSet,
    QueueAck,
    QueueAdd,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueResult,
    QueueRetrieve,
    Statement,
)
from tests.storage.journal.restarting import Turns, host

FOLDER = Path(__file__).parent
START_MS = 1_764_000_000_000
STATEMENTS: tuple[tuple[Statement, bytes | None], ...] = (
    (QueueAdd(b"q:claimed", b"p" * 3000, 5, 60, exclusive=True, external_id=b"ext"), b"owner"),
    (QueueRetrieve(b"q:claimed", 2, extended=True), b"owner"),
    (QueueMergeExtra(b"q:claimed", b'{"stage": "\xc3\xbc"}'), b"owner"),
    (QueueAdd(b"q:pending", b"short", -3), None),
    (QueueHeartbeat(b"q:pending"), None),
    (QueueAdd(b"other:done", Binary(b"\x00\xff" * 400), 0, external_id=b"e2"), None),
    (QueueAck(b"other:done", Binary(b"\x01")), None),
    (QueueAdd(b"other:read", b"{}"), None),
    (QueueAck(b"other:read", b"r" * 70_000), None),
    (QueueResult(b"other:read"), None),
    (CacheSet(b"c:ttl", b"v" * 300, 3600), None),
    (CacheSet(b"c:ever", b"value"), None),
    (CacheIncr(b"c:count"), None),
    (CacheIncr(b"c:count"), None),
)


def open_on(database: Database, turns: Turns) -> JournaledStore:
    """A store on what the database holds."""
    return JournaledStore(
        database,
        QueueLimits(),
        CacheLimits(),
        AnswerLimits(),
        host(turns, lambda work, _then: work(), print),
        None,
        Durability.RELAXED,
        Durability.RELAXED,
    )


def run_on(database: Database) -> JournaledStore:
    """A store after all of them, each under a request key of its own and 10 ms after the one before."""
    turns = Turns()
    store = open_on(database, turns)
    for number, (statement, process_id) in enumerate(STATEMENTS):
        store.execute(statement, Caller(process_id), (b"", b"sample", number), START_MS + number * 10)
        turns.all()
    return store


def main() -> None:
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "journal")
        run_on(database)
        backup(database.directory, FOLDER / f"schema-{rows.SCHEMA}.sqlite")
        database.close()


if __name__ == "__main__":
    main()
