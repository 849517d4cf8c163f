"""Whether a history can be that of a server that loses nothing, does nothing twice and invents nothing.

For each queue path and each cache key an order of its statements is looked for in which each one takes effect at one
moment between its sending and its answer, and every answer is right: the history is linearisable. A lost effect, one
that happened twice and an invented value all leave no such order. What one path alone cannot show has rules of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

from storage.journal.absences import Absence, Moved
from storage.vocabulary import (
    CacheIncr,
    CacheKeys,
    CacheStatement,
    KeyRef,
    OtherSql,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueHeartbeat,
    QueueRetrieve,
    QueueStatement,
)
from tests.crash.history import Operation
from tests.crash.models import LISTS, PathState, changes_nothing, step_key, step_path

State = TypeVar("State", bound=Hashable)
Step = Callable[[State, Operation], Iterable[State]]

HEARTBEATS_QUERY = b"SELECT prefix, id, heartbeat FROM system.queue"


@dataclass(frozen=True)
class Violation:
    """What must not be; `rule` names it in a word."""

    rule: str
    text: str


@dataclass
class Ids:
    """The item ids of all histories of one directory so far."""

    given: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        return max(self.given, default=0)


def check(operations: Sequence[Operation], ids: Ids | None = None, absences: Sequence[Absence] = ()) -> list[Violation]:
    """All violations. `ids` are of earlier histories, and these are added to them; in `absences` no server was up."""
    found = list(_unanswered(operations))
    if found:
        return found  # the rest needs an answer to everything
    return [
        *_other_answers(operations),
        *_wrong_ids(operations, Ids() if ids is None else ids),
        *_wrong_order(operations),
        *_wrong_heartbeats(operations, Moved(absences)),
        *_impossible(operations),
    ]


# Rules about answers.


def _unanswered(operations: Iterable[Operation]) -> Iterator[Violation]:
    for operation in operations:
        if operation.end is None:
            yield Violation("unanswered", str(operation))
        elif isinstance(operation.answers[0], str):
            yield Violation("error", str(operation))


def _other_answers(operations: Iterable[Operation]) -> Iterator[Violation]:
    """A message that is sent again gets the answer that its first sending earned."""
    for operation in operations:
        if any(answer != operation.answers[0] for answer in operation.answers):
            yield Violation("another answer", str(operation))


def must_be_kept(operation: Operation) -> bool:
    """Whether the answer tells that the statement changed something: then it is the answer for ever."""
    ask, row = operation.statement, operation.rows[0] if operation.rows else ()
    match ask:
        case QueueAdd():
            return row[1] == b"true"
        case QueueAddAndRetrieve():
            return row[1] == b"true" or row[4] is not None
        case QueueRetrieve():
            return bool(row) and row[4] is not None
        case QueueAck():
            return row == (b"true",)
        case CacheIncr():
            return True
    return False


# Rules about ids.


def _wrong_ids(operations: Iterable[Operation], ids: Ids) -> Iterator[Violation]:
    """Each is given once, and is above all that were given before the statement was sent."""
    adds = [each for each in operations if isinstance(each.statement, QueueAdd | QueueAddAndRetrieve)]
    new = [(operation, int(operation.rows[0][0] or 0)) for operation in adds if operation.rows[0][1] == b"true"]
    by_end = iter(sorted(new, key=lambda each: each[0].end or 0))
    highest, ended = ids.last, next(by_end, None)
    for operation, id_ in sorted(new, key=lambda each: each[0].begin):
        while ended is not None and (ended[0].end or 0) < operation.begin:
            highest, ended = max(highest, ended[1]), next(by_end, None)
        if id_ in ids.given:
            yield Violation("id given twice", str(operation))
        elif id_ <= highest:
            yield Violation("id went back", f"below {highest}: {operation}")
        ids.given.add(id_)


# Rules about lists.


def _wrong_order(operations: Sequence[Operation]) -> Iterator[Violation]:
    """By priority, the highest first, and by id among equals; active items by id alone (commands.md §4.4)."""
    priorities: dict[bytes, int] = {}
    for operation in operations:
        if isinstance(operation.statement, QueueAdd | QueueAddAndRetrieve) and operation.rows[0][1] == b"true":
            priorities[operation.rows[0][0] or b""] = operation.statement.priority
    for operation in operations:
        if isinstance(operation.statement, LISTS):
            listed = [row[1] or b"" for row in operation.rows]
            by_id_alone = isinstance(operation.statement, QueueActive)
            right = sorted(listed, key=lambda id_: (0 if by_id_alone else -priorities.get(id_, 0), int(id_)))
            if listed != right:
                yield Violation("order", f"{operation}, right were {right}")


# Rules about heartbeats, which only a SELECT shows.


def _wrong_heartbeats(operations: Sequence[Operation], moved: Moved) -> Iterator[Violation]:
    """That of an item at the end is from while one was asked for, and no older than the last one that is sure. Each is
    moved by the absences since: they keep the order of times."""

    def now(time_ms: int) -> int:
        return time_ms + moved.by_ms(time_ms)

    last_ids = {path: id_ for id_, path in sorted(paths_of_ids(operations).items())}
    rows = [row for each in operations if isinstance(each.statement, OtherSql) for row in each.rows]
    for prefix, key, heartbeat in rows:
        path = b"%s:%s" % (prefix, key)
        if path not in last_ids:
            continue  # of an earlier history
        sure = [each for each in operations if _beaten(each) == last_ids[path]]
        others = [each for each in operations if isinstance(each.statement, QueueHeartbeat) and _beaten(each) == path]
        beaten_ms = 0 if heartbeat is None else _ms(heartbeat)
        due_ms = max((now(each.begin_ms) for each in sure), default=0)
        if beaten_ms < due_ms:
            yield Violation("heartbeat", f"{beaten_ms} of {path!r} is older than {due_ms} of {sure[-1]}")
        elif beaten_ms and not any(now(each.begin_ms) <= beaten_ms <= now(each.end_ms) for each in sure + others):
            yield Violation("heartbeat", f"nobody asked for {beaten_ms} of {path!r}")


def _beaten(operation: Operation) -> KeyRef | None:
    """The item whose heartbeat this statement set: by its id, which is sure if the item lived on, or by its path."""
    ask, rows = operation.statement, operation.rows
    match ask:
        case QueueHeartbeat():
            return ask.key
        case QueueRetrieve():
            return int(rows[0][4]) if rows and rows[0][4] is not None else None
        case QueueAddAndRetrieve():
            return int(rows[0][0] or 0) if rows[0][4] is not None else None
    return None


def _ms(timestamp: bytes) -> int:
    return round(datetime.fromisoformat(timestamp.decode()).timestamp() * 1_000)


# Linearisability.


def paths_of_ids(operations: Iterable[Operation]) -> dict[int, bytes]:
    """The path of each id that an ADD told."""
    return {
        int(operation.rows[0][0] or 0): operation.statement.path
        for operation in operations
        if isinstance(operation.statement, QueueAdd | QueueAddAndRetrieve) and operation.rows
    }


def _impossible(operations: Sequence[Operation]) -> Iterator[Violation]:
    """Statements of a path or key that have no possible order."""
    of_path = paths_of_ids(operations)
    by_path: defaultdict[bytes, list[Operation]] = defaultdict(list)
    by_key: defaultdict[bytes, list[Operation]] = defaultdict(list)
    of_prefix: list[tuple[bytes, Operation]] = []
    for operation in operations:
        ask = operation.statement
        if isinstance(ask, (*LISTS, CacheKeys)):
            of_prefix.append((ask.prefix, operation))
        elif isinstance(ask, QueueStatement):
            key: KeyRef = ask.key if hasattr(ask, "key") else ask.path  # type: ignore[attr-defined]
            by_path[of_path[key] if isinstance(key, int) else key].append(operation)
        elif isinstance(ask, CacheStatement):
            by_key[ask.path].append(operation)  # type: ignore[attr-defined]
    for prefix, operation in of_prefix:
        table = by_path if isinstance(operation.statement, LISTS) else by_key
        for path in table:
            if path.rpartition(b":")[0] == prefix:
                table[path].append(operation)
    for path, about in by_path.items():
        yield from _explained(path, about, linearise(about, PathState(), partial(step_path, path)))
    for path, about in by_key.items():
        yield from _explained(path, about, linearise(about, None, partial(step_key, path)))


def _explained(
    path: bytes, operations: Sequence[Operation], stuck: tuple[Operation, set[State]] | None
) -> Iterator[Violation]:
    if stuck is None:
        return
    operation, states = stuck
    before = [each for each in operations if each.begin <= (operation.end or 0)]
    before.sort(key=lambda each: each.end or 0)
    text = "\n    ".join(map(str, before[-25:]))
    yield Violation("impossible", f"{path.decode()}: {operation}\n  from {states}\n  after\n    {text}")


def linearise(
    operations: Sequence[Operation], initial: State, step: Step[State]
) -> tuple[Operation, set[State]] | None:
    """None if there is an order that explains all answers; else the first operation without one, and the states that
    were possible ahead of it.

    A configuration is a possible state, and those open operations that have taken effect in it already. At each answer
    the ones are kept in which its operation can have taken effect by then. Exponential in how many statements of one
    path are open at once, which is a few.
    """
    points = [(operation.begin, operation) for operation in operations]
    points += [(operation.end or 0, operation) for operation in operations]
    open_: list[Operation] = []
    configurations: set[tuple[State, frozenset[Operation]]] = {(initial, frozenset())}
    for place, operation in sorted(points, key=lambda point: point[0]):
        if place == operation.begin:
            open_.append(operation)
            continue
        reached = _having_done(operation, configurations, open_, step)
        if not reached:
            return operation, {state for state, _ in configurations}
        open_.remove(operation)
        configurations = {(state, done - {operation}) for state, done in reached}
    return None


def _having_done(
    operation: Operation,
    configurations: set[tuple[State, frozenset[Operation]]],
    open_: Sequence[Operation],
    step: Step[State],
) -> set[tuple[State, frozenset[Operation]]]:
    """All configurations in which the operation has taken effect, and no more others than had to."""
    seen, reached = set(configurations), set()
    to_do = list(configurations)
    while to_do:
        state, done = configuration = to_do.pop()
        if operation in done:
            reached.add(configuration)
            continue
        branches = []
        for other in open_:
            if other not in done:
                after = set(step(state, other))
                if after == {state} and changes_nothing(other):
                    done |= {other}  # that it was answered here excludes nothing later
                else:
                    branches += [(next_, other) for next_ in after]
        if operation in done:
            reached.add((state, done))
            continue
        for next_, other in branches:
            configuration = (next_, done | {other})
            if configuration not in seen:
                seen.add(configuration)
                to_do.append(configuration)
    return reached
