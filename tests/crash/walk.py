"""A random walk of statements on a real journal, and the state after each group that was committed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from storage.asking import ANYBODY
from storage.journal.database import Database
from storage.journal.recorder import Group, Recorder
from storage.journal.store import JournaledStore
from storage.vocabulary import (
    CacheClear,
    CacheIncr,
    CacheRemove,
    CacheSet,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueResult,
    QueueRetrieve,
    Result,
)
from tests.asking import Told
from tests.audit import audit
from tests.drawing import Drawer, Weights
from tests.storage.journal.restarting import Turns, everything, opened

START_MS = 1_000
WEIGHTS: Weights = {
    QueueAdd: 8,
    QueueAddAndRetrieve: 3,
    QueueRetrieve: 6,
    QueueHeartbeat: 3,
    QueueMergeExtra: 3,
    QueueAck: 6,
    QueueResult: 3,
    QueueCancel: 2,
    CacheSet: 6,
    CacheIncr: 3,
    CacheRemove: 2,
    QueueClear: 0.4,
    CacheClear: 0.4,
}


class State:
    """What a store holds, with digests in place of long texts: it compares quickly, and fails with few words."""

    def __init__(self, store: JournaledStore) -> None:
        held = everything(store)
        self._answers: list[tuple[object, ...]] = held.pop("answers")  # type: ignore[assignment]
        self.answers = {repr(key): _digest(result) for key, result, _ in self._answers}
        self.rows = {_digest(f"{table} {row}"): f"{table} {row}"[:400] for table, row in _each(held)}

    def differs_from(self, expected: State, ever_kept: dict[str, str]) -> str:
        """In what, in short; empty when in nothing.

        An answer that had expired may be there again: it is written with others and goes with the last of them.
        """
        lost = [text for digest, text in expected.rows.items() if digest not in self.rows]
        invented = [text for digest, text in self.rows.items() if digest not in expected.rows]
        missing = [key for key, digest in expected.answers.items() if self.answers.get(key) != digest]
        wrong = [key for key, digest in self.answers.items() if ever_kept.get(key) != digest]
        return "".join(
            f"\n{name}: {found}"
            for name, found in (
                ("lost", lost),
                ("invented", invented),
                ("answers lost", missing),
                ("answers wrong", wrong),
            )
            if found
        )


def _each(held: dict[str, object]) -> Iterator[tuple[str, str]]:
    for table, rows in held.items():
        for row in rows if isinstance(rows, list) else [rows]:
            yield table, repr(row)


def _digest(text: object) -> str:
    return hashlib.sha256(repr(text).encode()).hexdigest()


def state_in(directory: Path) -> State:
    """What a start finds there. It is audited, and a second start finds the same behind what the first one wrote."""
    states = []
    for _ in range(2):
        turns = Turns()
        database = Database(directory)
        store = opened(database, turns)  # type: ignore[arg-type]  # the real one
        audit(store)
        states.append(State(store))
        turns.all()
        database.close()
    assert not states[1].differs_from(states[0], states[0].answers)
    return states[0]


def a_text(random: Random) -> bytes:
    """Mostly short; some are rows of their own, some of those are written ahead in chunks."""
    size = random.choice([0, 5, 30, 255, 256, 257, 2_000, 2_000, 70_000, 300_000 if random.random() < 0.3 else 40])
    return random.randbytes(8).hex().encode() * (size // 16) + b"." * (size % 16)


def drawer(random: Random) -> Drawer:
    """Statements on few paths, so that they meet."""
    paths = [b"%s:%d" % (prefix, number) for prefix in (b"a", b"b") for number in range(12)]
    return Drawer(
        random,
        paths,
        cache_paths=paths,
        counters=[b"n:0", b"n:1", b"n:2"],
        text=lambda: a_text(random),
        extra=lambda: b'{"k%d": "%s"}' % (random.randrange(3), a_text(random)[:3_000]),
        key=lambda: random.choice(paths),
        orphaned_s=[None, 60],
        ttls_s=[None, 10, 600],
    )


@dataclass
class Commit:
    """The state after a group, and the log file and its length when the group was in."""

    log: str
    log_bytes: int
    state: State


@dataclass
class Walk:
    """A directory as the death of its process leaves it, and its commits. The first one is of the empty journal."""

    directory: Path
    commits: list[Commit] = field(default_factory=list)

    @property
    def ever_kept(self) -> dict[str, str]:
        """All answers that any group had."""
        return {key: digest for commit in self.commits for key, digest in commit.state.answers.items()}

    @property
    def log(self) -> Path:
        """The only log file of a short walk."""
        (path,) = self.directory.glob("*.log")
        return path


def walk(directory: Path, seed: int, statements: int, monkeypatch: pytest.MonkeyPatch) -> Walk:
    """Take one, and copy the directory before the database closes, which would tidy up."""
    random, turns = Random(seed), Turns()
    statements_of = drawer(random)
    taken: list[State] = []
    commits: list[Commit] = []
    told: list[Told] = []

    class Tracing(Database):
        def write(self, group: Group) -> None:
            super().write(group)
            commits.append(Commit(*newest_log(self.directory), taken.pop(0)))

    class Snapshots(Recorder):
        def take(self, mark: bytes = b"") -> Group:
            taken.append(State(store))  # what is executed while large texts are written is not in the group
            return super().take(mark)

    monkeypatch.setattr("storage.journal.store.Recorder", Snapshots)
    database = Tracing(directory)
    store = opened(database, turns)  # type: ignore[arg-type]  # the real one
    commits.append(Commit(*newest_log(directory), State(store)))
    now_ms = START_MS
    for number in range(statements):
        now_ms += random.choice([0, 0, 1, 50])
        key = (b"", b"client", number) if random.random() < 0.9 else None
        outcome = store.execute(statements_of.draw(WEIGHTS), ANYBODY, key, now_ms)
        if isinstance(outcome, Told):
            told.append(outcome)
        if random.random() < 0.1:
            now_ms += random.choice([0, 61_000])
            store.tick(now_ms, 50)
        if random.random() < 0.6:
            turns.one() if random.random() < 0.5 else turns.all()
    turns.all()
    audit(store)
    assert all(isinstance(each.outcome, Result) for each in told)
    copy = directory.with_name(directory.name + "-copy")
    shutil.copytree(directory, copy)
    database.close()
    return Walk(copy, commits)


def newest_log(directory: Path) -> tuple[str, int]:
    """The log file that is written to, and its length."""
    path = max(directory.glob("*.log"), key=lambda path: int(path.stem))
    return path.name, path.stat().st_size
