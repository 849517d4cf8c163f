"""A Hypothesis machine that runs every command against an engine and the naive model, and compares all they show.

Before a statement the clock may go on, to the edge of the next expiry, by hours, or back; after it both must show the
same: every list for every caller, the cache's keys, the counts, and what each waiter was told.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.asking import Caller
from storage.vocabulary import (
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
)
from tests.conformance.engines import MEMORY, Limits
from tests.model import strategies as draw
from tests.model.strategies import ById
from tests.model.twins import Key, Pause, Twins


class StoreMachine(RuleBasedStateMachine):
    """Every statement, on both. A subclass may have another engine, if its limits and its eviction are exact."""

    engine = MEMORY

    @initialize(
        limits=draw.limits(),
        queue_paths=draw.some_queue_paths,
        cache_paths=draw.some_cache_paths,
        items=st.lists(st.tuples(draw.choices, draw.priorities), max_size=4),
        owner=draw.callers,
    )
    def begin(
        self,
        limits: Limits,
        queue_paths: list[bytes],
        cache_paths: list[bytes],
        items: list[tuple[int, int]],
        owner: Caller,
    ) -> None:
        self.twins = Twins(self.engine, limits, queue_paths, cache_paths)
        for path, priority in items:
            ask = QueueAdd(self.twins.queue_path(path), b"{}", priority, exclusive=owner.process_id is not None)
            self.twins.both(ask, owner, False, 0)

    # Entering and claiming.

    @rule(
        path=draw.choices,
        payload=draw.payloads,
        priority=draw.priorities,
        orphaned_s=draw.orphaned_s,
        exclusive=st.booleans(),
        external_id=draw.external_ids,
        caller=draw.callers,
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def add(
        self,
        path: int,
        payload: bytes,
        priority: int,
        orphaned_s: int | None,
        exclusive: bool,
        external_id: bytes | None,
        caller: Caller,
        keyed: bool,
        pause: Pause,
    ) -> None:
        ask = QueueAdd(self.twins.queue_path(path), payload, priority, orphaned_s, exclusive, external_id)
        self.twins.both(ask, caller, keyed, pause)

    @rule(
        path=draw.choices,
        payload=draw.payloads,
        concurrency=draw.concurrencies,
        priority=draw.priorities,
        orphaned_s=draw.orphaned_s,
        exclusive=st.booleans(),
        external_id=draw.external_ids,
        caller=draw.callers,
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def add_and_retrieve(
        self,
        path: int,
        payload: bytes,
        concurrency: int,
        priority: int,
        orphaned_s: int | None,
        exclusive: bool,
        external_id: bytes | None,
        caller: Caller,
        keyed: bool,
        pause: Pause,
    ) -> None:
        name = self.twins.queue_path(path)
        ask = QueueAddAndRetrieve(name, payload, concurrency, priority, orphaned_s, exclusive, external_id)
        self.twins.both(ask, caller, keyed, pause)

    @rule(
        path=draw.choices,
        concurrency=draw.concurrencies,
        extended=st.booleans(),
        caller=draw.callers,
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def retrieve(self, path: int, concurrency: int, extended: bool, caller: Caller, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueRetrieve(self.twins.queue_path(path), concurrency, extended), caller, keyed, pause)

    # Looking.

    @rule(key=draw.queue_keys, with_payload=st.booleans(), caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def look(self, key: Key, with_payload: bool, caller: Caller, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueGet(self.twins.key(key)), caller, keyed, pause)
        for prefix in [*self.twins.queue_prefixes, b"unknown"]:
            for kind in (QueueList, QueuePending, QueueActive):
                self.twins.both(kind(prefix, with_payload), caller, keyed, 0)

    @rule(heartbeat_ms=draw.timeouts_ms, orphaned_ms=draw.timeouts_ms, caller=draw.callers, pause=draw.pauses)
    def to_cancel(self, heartbeat_ms: int, orphaned_ms: int, caller: Caller, pause: Pause) -> None:
        """To the edge of a timeout, too: an item that was claimed or added so long ago."""
        self.twins.let_pass(pause)
        for prefix in self.twins.queue_prefixes:
            self.twins.both(QueueToCancel(prefix, heartbeat_ms, orphaned_ms), caller, False, 0)
            self.twins.both(QueueStalled(prefix, heartbeat_ms), caller, False, 0)
            self.twins.both(QueueOrphaned(prefix, orphaned_ms), caller, False, 0)

    # Working on an item and ending it.

    @rule(key=draw.queue_keys, keyed=st.booleans(), pause=draw.pauses)
    def heartbeat(self, key: Key, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueHeartbeat(self.twins.key(key)), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, extra=draw.extras, keyed=st.booleans(), pause=draw.pauses)
    def merge_extra(self, key: Key, extra: bytes, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueMergeExtra(self.twins.key(key), extra), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def cancel(self, key: Key, caller: Caller, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueCancel(self.twins.key(key)), caller, keyed, pause)

    @rule(key=draw.queue_keys, value=draw.values, caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def ack(self, key: Key, value: bytes | None, caller: Caller, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueAck(self.twins.key(key), value), caller, keyed, pause)

    @rule(key=draw.queue_keys, external_id=draw.external_ids, keyed=st.booleans(), pause=draw.pauses)
    def result(self, key: Key, external_id: bytes | None, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueResult(self.twins.key(key), external_id), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, timeout_ms=st.integers(1, 90_000), keyed=st.booleans(), pause=draw.pauses)
    def result_blocking(self, key: Key, timeout_ms: int, keyed: bool, pause: Pause) -> None:
        self.twins.both(QueueResultBlocking(self.twins.key(key), timeout_ms), Caller(), keyed, pause)

    @rule(
        path=draw.choices,
        external_id=draw.external_ids,
        waits=st.lists(st.sampled_from([0, ById(1)]), max_size=3),
        value=draw.values,
        is_cancelled=st.booleans(),
        readers=st.integers(0, 2),
        keyed=st.booleans(),
    )
    def live_through(
        self,
        path: int,
        external_id: bytes | None,
        waits: list[Key],
        value: bytes | None,
        is_cancelled: bool,
        readers: int,
        keyed: bool,
    ) -> None:
        """A whole life at once, so that results and those who wait for one are not rare."""
        name = self.twins.queue_path(path)
        self.twins.both(QueueAdd(name, b"{}", external_id=external_id), Caller(), keyed, 0)
        for key in waits:
            self.twins.both(QueueResultBlocking(name if key == 0 else self.twins.key(key), 1_000), Caller(), keyed, 0)
        self.twins.both(QueueCancel(name) if is_cancelled else QueueAck(name, value), Caller(), keyed, 0)
        for _ in range(readers):
            self.twins.both(QueueResult(name), Caller(), keyed, 0)

    @precondition(lambda self: self.twins.waits)
    @rule(number=st.integers(0, 99), pause=draw.pauses)
    def give_up(self, number: int, pause: Pause) -> None:
        """Whichever wait: one that was answered stays as it was. Now and then all of them."""
        if number > 90:
            self.twins.end_waits(pause)
        else:
            self.twins.give_up(number, pause)

    @precondition(lambda self: self.twins.model.queue.results)
    @rule(number=st.integers(0, 99), off_by_ms=st.integers(-1, 1), by_path=st.booleans())
    def meet_a_result_at_its_end(self, number: int, off_by_ms: int, by_path: bool) -> None:
        """The first statement to see that a result has gone, or has not."""
        results = self.twins.model.queue.results
        result = results[number % len(results)]
        self.twins.let_pass_until(result.expire_ms + off_by_ms)
        self.twins.both(QueueResult(result.path if by_path else result.id), Caller(), False, 0)

    @precondition(lambda self: self.twins.model.queue.items)
    @rule(
        kind=st.sampled_from([QueueGet, QueueCancel, QueueHeartbeat, QueueRetrieve, QueueAdd, QueueAck]),
        number=st.integers(0, 99),
        off_by_ms=st.integers(-1, 1),
    )
    def meet_an_item_at_its_end(self, kind: type[Statement], number: int, off_by_ms: int) -> None:
        """The first statement to see that an item has gone, or has not."""
        queue = self.twins.model.queue
        item = queue.items[number % len(queue.items)]
        self.twins.let_pass_until(queue.end_of(item) + off_by_ms)
        asks: dict[type[Statement], Statement] = {
            QueueGet: QueueGet(item.id),
            QueueCancel: QueueCancel(item.id),
            QueueHeartbeat: QueueHeartbeat(item.id),
            QueueRetrieve: QueueRetrieve(item.path, 9),
            QueueAdd: QueueAdd(item.path, b"new"),
            QueueAck: QueueAck(item.id, b"late"),
        }
        self.twins.both(asks[kind], Caller(), False, 0)

    # The cache.

    @rule(
        path=draw.choices,
        value=draw.cache_values,
        ttl_s=draw.ttls_s,
        nx=st.booleans(),
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def cache_set(self, path: int, value: bytes, ttl_s: int | None, nx: bool, keyed: bool, pause: Pause) -> None:
        self.twins.both(CacheSet(self.twins.cache_path(path), value, ttl_s, nx), Caller(), keyed, pause)

    @rule(value=draw.cache_values, ttl_s=draw.ttls_s, used=draw.choices)
    def cache_fill(self, value: bytes, ttl_s: int | None, used: int) -> None:
        """All paths, one after the other, and one of them used in between: what eviction is to tell apart."""
        for path in self.twins.cache_paths:
            self.twins.both(CacheSet(path, value, ttl_s, nx=True), Caller(), False, 0)
            self.twins.both(CacheGet(self.twins.cache_path(used)), Caller(), False, 0)

    @rule(path=draw.choices, prefix=draw.cache_prefixes, keyed=st.booleans(), pause=draw.pauses)
    def cache_look(self, path: int, prefix: bytes, keyed: bool, pause: Pause) -> None:
        self.twins.both(CacheGet(self.twins.cache_path(path)), Caller(), keyed, pause)
        self.twins.both(CacheKeys(prefix), Caller(), keyed, 0)

    @rule(path=draw.choices, keyed=st.booleans(), pause=draw.pauses)
    def incr(self, path: int, keyed: bool, pause: Pause) -> None:
        self.twins.both(CacheIncr(self.twins.cache_path(path)), Caller(), keyed, pause)

    @rule(path=draw.choices, keyed=st.booleans(), pause=draw.pauses)
    def cache_remove(self, path: int, keyed: bool, pause: Pause) -> None:
        self.twins.both(CacheRemove(self.twins.cache_path(path)), Caller(), keyed, pause)

    # The store as a whole.

    @precondition(lambda self: len(self.twins.model.queue.items) + len(self.twins.model.cache.entries) > 3)
    @rule(ask=draw.emptyings, keyed=st.booleans(), pause=draw.pauses)
    def empty(self, ask: Statement, keyed: bool, pause: Pause) -> None:
        self.twins.both(ask, Caller(), keyed, pause)

    @rule(ask=draw.administrations, keyed=st.booleans(), pause=draw.pauses)
    def administer(self, ask: Statement, keyed: bool, pause: Pause) -> None:
        self.twins.both(ask, Caller(), keyed, pause)

    @rule(max_rows=st.integers(1, 5), pause=draw.pauses)
    def tick(self, max_rows: int, pause: Pause) -> None:
        self.twins.tick(max_rows, pause)

    @rule(pause=draw.pauses)
    def tick_to_the_end(self, pause: Pause) -> None:
        self.twins.tick_to_the_end(pause)

    # Requests that are sent again.

    @precondition(lambda self: self.twins.sent)
    @rule(number=st.integers(0, 99), pause=draw.pauses)
    def send_again(self, number: int, pause: Pause) -> None:
        self.twins.send_again(number, pause)

    @precondition(lambda self: self.twins.sent)
    @rule(number=st.integers(0, 99), has_arrived=st.booleans())
    def learn_of_delivery(self, number: int, has_arrived: bool) -> None:
        self.twins.learn_of_delivery(number, has_arrived=has_arrived)

    # After each step, and at the end of a run that found nothing.

    @invariant()
    def is_the_same(self) -> None:
        self.twins.assert_alike()

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            if self.twins.are_alike:
                self.twins.read_everything()
            self.twins.client.close()
