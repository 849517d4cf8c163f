"""Puts the rows of a journal back into a store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from storage.asking import ANYBODY, Caller
from storage.journal import rows
from storage.journal.absences import Moved
from storage.journal.blobs import RestoredBlobs
from storage.journal.database import Database
from storage.journal.errors import JournalError
from storage.journal.recorder import Recorder
from storage.limits import LARGE_TEXT_BYTES
from storage.memory import MemoryStore
from storage.minutes import KEPT_MINUTES, MINUTE_MS
from storage.queue.items import Item, StoredResult
from storage.vocabulary import RequestKey

# A server is known to be up for so long when it gives an answer: a start takes longer.
_UP_MS = 1_000


def stored_next_id(database: Database) -> int:
    """The id that the next item would have got; 1 in a new journal."""
    value = database.get(rows.NEXT_ID_KEY)
    return 1 if value is None else rows.decode_number(value)


def recover(
    database: Database, store: MemoryStore, recorder: Recorder, moved: Moved, now_ms: int, *, with_cache: bool
) -> None:
    """Fill a new store with what the journal holds. Answers count as given now, so none has less than its time left;
    but those that were kept for their whole time before, while a server was up, are the first to go when room is
    short: else a server that ends and starts all the time would gather answers until it refuses writes.

    Times of the queue are moved by the absences of a server that they lie ahead of.

    O(rows): about 10 µs each. Raises `JournalError` for rows that no journal of this schema can hold. What expired
    meanwhile is put back as well: the first statement removes it.
    """
    try:
        texts = recorder.blobs.restore(_texts(database))
        _recover_items(database, store, texts, moved)
        _recover_results(database, store, texts, moved)
        if with_cache:
            _recover_cache(database, store, recorder, texts, now_ms)
        _recover_answers(database, store, recorder, texts, now_ms)
        _recover_history(database, store, now_ms)
    except (msgspec.DecodeError, KeyError, ValueError, IndexError) as error:
        raise JournalError(f"a row of the journal in {database.directory} makes no sense: {error!r}") from error
    recorder.id_restored(store.queue.next_id)
    recorder.blobs.forget_unnamed(texts)
    recorder.forget_puts()


def _texts(database: Database) -> Iterator[tuple[int, bytes]]:
    """Number and text, put together from its chunks. A text whose first chunks are missing is left out: only a
    group that was never committed leaves such, and nothing names it."""
    number, chunks = 0, list[bytes]()
    for key, value in database.rows(rows.BLOB):
        if rows.number_of(key) != number:
            if chunks:
                yield number, chunks[0] if len(chunks) == 1 else b"".join(chunks)
            number, chunks = rows.number_of(key), []
        chunks.append(value)
    if chunks:
        yield number, chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _recover_items(database: Database, store: MemoryStore, texts: RestoredBlobs, moved: Moved) -> None:
    items = store.queue.items
    callers: dict[Caller, Caller] = {ANYBODY: ANYBODY}  # one object each: a client has many items
    for key, value in database.rows(rows.ITEM):
        row = rows.decode_item(value)
        caller = Caller(row.process_id, row.added_peer, row.added_connection)
        later_ms = moved.by_ms(row.created_ms)
        item = Item(
            rows.number_of(key),
            row.path,
            items.queue_for(row.path),
            rows.loaded(row.payload, texts.get),
            row.priority,
            row.created_ms + later_ms,
            None if row.orphaned_ms is None else row.orphaned_ms + later_ms,
            callers.setdefault(caller, caller),
            row.exclusive,
            row.external_id,
        )
        items.insert(item)
    for key, value in database.rows(rows.STATE):
        state = rows.decode_state(value)
        item = items.by_id[rows.number_of(key)]
        if state.extra is not None:
            items.set_extra(item, rows.loaded(state.extra, texts.get))
        if state.heartbeat_ms is not None:
            heartbeat_ms = state.heartbeat_ms + moved.by_ms(state.heartbeat_ms, state.moved_until_ms)
            if state.active:
                caller = Caller(state.claimed_by_process, state.claimed_by_peer, state.claimed_by_connection)
                items.claim(item, callers.setdefault(caller, caller), heartbeat_ms)
                if state.claimed_ms is not None:
                    item.claimed_ms = state.claimed_ms + moved.by_ms(state.claimed_ms, state.moved_until_ms)
            else:
                items.beat(item, heartbeat_ms)


def _recover_results(database: Database, store: MemoryStore, texts: RestoredBlobs, moved: Moved) -> None:
    life_ms = store.queue.limits.results_expire_ms
    for key, value in database.rows(rows.RESULT):
        row = rows.decode_result(value)
        text = rows.loaded(row.value, texts.get)
        expire_ms = row.expire_ms + moved.by_ms(row.expire_ms - life_ms, row.moved_until_ms)
        result = StoredResult(rows.number_of(key), row.path, text, row.external_id, expire_ms)
        result.taken = row.taken
        store.queue.results.table.put(result)


def _recover_cache(
    database: Database, store: MemoryStore, recorder: Recorder, texts: RestoredBlobs, now_ms: int
) -> None:
    """In the order in which they were written, which is the nearest to the order of their uses that is known."""
    entries = [(key[1:], rows.decode_entry(value)) for key, value in database.rows(rows.ENTRY)]
    entries.sort(key=lambda entry: entry[1].written)
    for path, row in entries:
        store.cache.insert(path, rows.loaded(row.value, texts.get), row.expires_ms, now_ms)
    guard = database.get(rows.GUARD_KEY)
    if guard is not None:
        store.cache.guard.restore(rows.decode_number(guard))
    elif entries:  # of a server that knew of no guard
        store.cache.guard.restore(0)
    else:
        store.cache.guard.see(now_ms)
    store.cache.see(now_ms)  # a clock that steps back from here brings nothing back that has expired by now
    recorder.writes_restored(entries[-1][1].written if entries else 0)


def _recover_answers(
    database: Database, store: MemoryStore, recorder: Recorder, texts: RestoredBlobs, now_ms: int
) -> None:
    keys: list[RequestKey] = []
    times_ms: list[int] = []
    for key, value in database.rows(rows.ANSWERS):
        whole = []
        for row in rows.decode_answers(value):
            try:
                whole.append((row, rows.result_of(row, texts.get)))
            except KeyError:  # it was dropped, and its texts with it, while others of its group were kept
                continue
        group = recorder.answers_restored(rows.number_of(key), [result for _, result in whole])
        for row, result in whole:
            request_key = (row.user, row.connection_id, row.message_id)
            answers = store.answers
            size_bytes = answers.keep(
                request_key, result, max(row.answered_ms, now_ms), "", answers.pool_of(result), group
            )
            if size_bytes > LARGE_TEXT_BYTES:
                store.count_payload_once(request_key, result)
            keys.append(request_key)
            times_ms.append(row.answered_ms)
    old_ms = _give_way_ms(times_ms, store.answers.longest_kept_ms)
    store.answers.confirm(key for key, answered_ms in zip(keys, times_ms, strict=True) if answered_ms < old_ms)


def _recover_history(database: Database, store: MemoryStore, now_ms: int) -> None:
    """What people look at: minutes of the last 24 hours, and the items that ended."""
    oldest = now_ms // MINUTE_MS - KEPT_MINUTES
    minutes = [rows.decode_minutes(value) for _, value in database.rows(rows.MINUTE)]
    for minute in sorted((each for each in minutes if each), key=lambda each: each[0][1].minute):
        if minute[0][1].minute > oldest:
            store.queue.stats.restore_minutes(minute)
    blocks = (rows.decode_block(value) for _, value in database.rows(rows.BLOCK))
    store.queue.history.restore(blocks, store.queue.items.by_id)


def _give_way_ms(answered_ms: list[int], kept_ms: int) -> int:
    """Answers from before this time were kept for `kept_ms` while a server was up, however often and long none was."""
    newest_first = sorted(set(answered_ms), reverse=True)
    up_ms = 0
    for later_ms, time_ms in pairwise(newest_first):
        up_ms += min(later_ms - time_ms, _UP_MS)
        if up_ms > kept_ms:
            return later_ms
    return 0
