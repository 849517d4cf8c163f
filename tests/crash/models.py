"""One queue path, and one cache key: what a statement with this answer may make of its state (commands.md §4, §5).

Each `step` gives all states that are possible after it: none when the answer cannot be. A statement whose answer
leaves open whether it changed something gives several.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from storage.vocabulary import (
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    KeyRef,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
)
from tests.crash.history import Operation, Row, canonical

UNLIMITED = 1_000  # a CONCURRENCY that is never reached: a claim fails for the item's sake alone

SHORT_TTL_S = 10  # an entry may be gone within one history; with a longer TTL it may not

Lists: TypeAlias = QueueList | QueuePending | QueueActive
LISTS = (QueueList, QueuePending, QueueActive)


class Item(NamedTuple):
    id: bytes
    payload: bytes
    extra: bytes | None = None
    is_active: bool = False


class StoredResult(NamedTuple):
    id: bytes
    value: bytes
    is_taken: bool = False


class PathState(NamedTuple):
    """`woken_by` is the item id and value of an ACK while nothing else happened: whoever waited gets it then."""

    item: Item | None = None
    results: tuple[StoredResult, ...] = ()  # oldest first
    woken_by: tuple[bytes, bytes | None] | None = None

    def with_item(self, item: Item | None) -> PathState:
        return PathState(item, self.results)

    def named(self, key: KeyRef) -> Item | None:
        """The item that a path or an id names."""
        by_path = not isinstance(key, int)
        return self.item if self.item is not None and (by_path or int(self.item.id) == key) else None


def changes_nothing(operation: Operation) -> bool:
    """Whether the statement, or its answer, tells that it changed nothing, whatever the state was."""
    ask, rows = operation.statement, operation.rows
    match ask:
        case QueueGet() | QueueList() | QueuePending() | QueueActive() | QueueHeartbeat() | CacheGet() | CacheKeys():
            return True
        case QueueAdd():
            return rows[0][1] == b"false"
        case QueueAddAndRetrieve():
            return rows[0][1] == b"false" and rows[0][4] is None
        case QueueRetrieve():
            return not rows or rows[0][4] is None
        case QueueCancel() | QueueResultBlocking():
            return not rows
        case QueueResult():
            return not rows or isinstance(ask.key, int)
        case QueueAck() | CacheSet():
            return rows[0] == (b"false",)
    return False


def step_path(path: bytes, state: PathState, operation: Operation) -> Iterator[PathState]:
    """A statement about this path, or a list of its prefix."""
    ask, rows = operation.statement, operation.rows
    match ask:
        case QueueAdd():
            return _add(state, ask, rows[0])
        case QueueAddAndRetrieve():
            return _add_and_retrieve(state, ask, rows[0])
        case QueueRetrieve():
            return _retrieve(state, ask, rows[0] if rows else (None,) * 5)
        case QueueHeartbeat():
            return iter((state,))
        case QueueMergeExtra():
            return _merge_extra(state, ask)
        case QueueGet() | QueueCancel():
            return _read_item(state, ask, rows[0] if rows else None)
        case QueueAck():
            return _ack(state, ask, rows[0][0] == b"true")
        case QueueResult():
            return _read_result(state, ask.key, rows[0] if rows else None)
        case QueueResultBlocking():
            return _wait(state, ask, rows[0] if rows else None)
        case QueueList() | QueuePending() | QueueActive():
            return _listed(path, state, ask, rows)
    raise NotImplementedError(ask)


def _add(state: PathState, ask: QueueAdd, row: Row) -> Iterator[PathState]:
    id_, added = row[0], row[1] == b"true"
    if state.item is None and added and id_ is not None:
        yield state.with_item(Item(id_, ask.payload))
    elif state.item is not None and not added and id_ == state.item.id:
        yield state


def _add_and_retrieve(state: PathState, ask: QueueAddAndRetrieve, row: Row) -> Iterator[PathState]:
    id_, added, _, _, payload, extra = row
    if (added == b"true") != (state.item is None) or id_ is None:
        return
    item = Item(id_, ask.payload) if state.item is None else state.item
    if item.id != id_:
        return
    if payload is not None:
        if not item.is_active and (payload, extra) == (item.payload, item.extra):
            yield state.with_item(item._replace(is_active=True))
    elif item.is_active or ask.concurrency < UNLIMITED:
        yield state if item == state.item else state.with_item(item)


def _retrieve(state: PathState, ask: QueueRetrieve, row: Row) -> Iterator[PathState]:
    payload, extra, _, _, id_ = row
    item = state.item
    if id_ is None:
        if item is None or item.is_active or ask.concurrency < UNLIMITED:
            yield state
    elif item is not None and not item.is_active and (id_, payload, extra) == (item.id, item.payload, item.extra):
        yield state.with_item(item._replace(is_active=True))


def _merge_extra(state: PathState, ask: QueueMergeExtra) -> Iterator[PathState]:
    item = state.named(ask.key)
    if item is None:
        yield state
    else:
        merged = canonical(json.loads(item.extra or b"{}") | json.loads(ask.extra))
        yield state.with_item(item._replace(extra=merged))


def _read_item(state: PathState, ask: QueueGet | QueueCancel, row: Row | None) -> Iterator[PathState]:
    item = state.named(ask.key)
    if row == (None if item is None else (item.payload, item.extra)):
        yield state if item is None or isinstance(ask, QueueGet) else state.with_item(None)


def _ack(state: PathState, ask: QueueAck, success: bool) -> Iterator[PathState]:
    item = state.named(ask.key)
    if success != (item is not None):
        return
    if item is None:
        yield state
    else:
        stored = () if ask.value is None else (StoredResult(item.id, ask.value),)
        yield PathState(None, state.results + stored, (item.id, ask.value))


def _read_result(state: PathState, key: KeyRef, row: Row | None) -> Iterator[PathState]:
    """By id as often as one likes; by path the newest, once."""
    if isinstance(key, int):
        found = next((result for result in state.results if result.id == b"%d" % key), None)
    else:
        found = state.results[-1] if state.results and not state.results[-1].is_taken else None
    if found is None:
        if row is None:
            yield state
    elif row is not None and (row[0], row[2]) == (found.value, found.id):
        yield state if isinstance(key, int) else _taken(state, found)


def _wait(state: PathState, ask: QueueResultBlocking, row: Row | None) -> Iterator[PathState]:
    """It found what RESULT finds, and took it if it would have waited; or it waited already when the ACK came."""
    key = ask.key
    for after in _read_result(state, key, row):
        found = [result for result in after.results if row is not None and result.id == row[2]]
        yield _taken(after, found[0])._replace(woken_by=after.woken_by) if found and ask.timeout_ms else after
    if row is None or state.woken_by is None or (row[2], row[0]) != state.woken_by:
        return
    if not isinstance(key, int):  # one who waits by path takes the result along
        yield state._replace(results=tuple(result for result in state.results if result.id != row[2]))
    elif row[2] == b"%d" % key:
        taken = [result for result in state.results if result.id == row[2]]
        yield _taken(state, taken[0])._replace(woken_by=state.woken_by) if taken else state


def _taken(state: PathState, taken: StoredResult) -> PathState:
    results = (result._replace(is_taken=result.is_taken or result.id == taken.id) for result in state.results)
    return PathState(state.item, tuple(results))


def _listed(path: bytes, state: PathState, ask: Lists, rows: tuple[Row, ...] | object) -> Iterator[PathState]:
    key = path.rpartition(b":")[2]
    assert isinstance(rows, tuple)
    mine = [row[1:] for row in rows if row[0] == key]
    item = state.item
    if item is not None and not isinstance(ask, QueueActive if not item.is_active else QueuePending):
        status = b"active" if item.is_active else b"pending"
        expected = [(item.id, status, item.extra, *((item.payload,) if ask.with_payload else ()))]
    else:
        expected = []
    if mine == expected:
        yield state


class Entry(NamedTuple):
    value: bytes
    may_end: bool = False  # its time may pass within the history


KeyState: TypeAlias = Entry | None


def step_key(path: bytes, state: KeyState, operation: Operation) -> Iterator[KeyState]:
    """A statement about this cache key, or CACHE KEYS of its prefix. An entry whose time may pass is gone for good
    once it is gone."""
    yield from _step_key(path, state, operation)
    if state is not None and state.may_end:
        yield from _step_key(path, None, operation)


def _step_key(path: bytes, state: KeyState, operation: Operation) -> Iterator[KeyState]:
    ask, rows = operation.statement, operation.rows
    match ask:
        case CacheSet():
            is_set = rows[0] == (b"true",)
            if is_set and (state is None or not ask.nx):
                yield Entry(ask.value, ask.ttl_s is not None and ask.ttl_s <= SHORT_TTL_S)
            elif not is_set and ask.nx and state is not None:
                yield state
        case CacheIncr():
            entry = Entry(b"0") if state is None else state
            entry = entry._replace(value=b"%d" % (int(entry.value) + 1))
            if rows[0] == (entry.value,):
                yield entry
        case CacheGet():
            if rows[0] == (None if state is None else state.value,):
                yield state
        case CacheKeys():
            if ((path,) in rows) == (state is not None):
                yield state
        case CacheRemove():
            yield None
        case _:
            raise NotImplementedError(ask)
