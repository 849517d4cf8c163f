"""A Hypothesis machine that runs every command against an engine and the naive model, and compares all they show.

Before a statement the clock may go on, to the edge of the next expiry, by hours, or back; after it both must show the
same: every list for every caller, the cache's keys, the counts, and what each waiter was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.errors import StatementError
from storage.interface import Caller, Outcome, Pending, Reply, RequestKey, Store
from storage.memory import MemoryStore
from storage.queue import RESULT_OVERHEAD_BYTES
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    CachestoreAction,
    KeyRef,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
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
    Result,
    Statement,
    SysCachestore,
)
from tests.conformance.engines import FIRST_ID, Limits
from tests.model import strategies as draw
from tests.model.comparison import assert_allowed_victims, assert_same
from tests.model.naive import NaiveStore
from tests.model.strategies import ById, UntilDue

START_MS = 1_764_000_000_000
MAY_EVICT = (CacheSet, CacheIncr, SysCachestore)


@dataclass
class Sent:
    """A statement that was sent under a request key; `must_be_kept` when its answer may never be computed again."""

    key: RequestKey
    ask: Statement
    caller: Caller
    must_be_kept: bool


@dataclass
class Wait:
    """One RESULT_BLOCKING on both sides."""

    sent: Sent | None
    in_model: Pending
    in_store: Pending
    told_by_model: list[Outcome] = field(default_factory=list)
    told_by_store: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.in_model.on_outcome = self.told_by_model.append
        self.in_store.on_outcome = self.told_by_store.append


class StoreMachine(RuleBasedStateMachine):
    """Every statement, on both. A subclass may put another engine into `open_store`."""

    open_store: ClassVar[Callable[[Limits], Store]] = staticmethod(
        lambda limits: MemoryStore(limits.queue, limits.cache, limits.answers, FIRST_ID, Random(0).random)
    )

    @initialize(limits=draw.limits())
    def begin(self, limits: Limits) -> None:
        self.model = NaiveStore(limits.queue, limits.cache, limits.answers, FIRST_ID, evicts=False)
        self.model.queue.result_overhead_bytes = RESULT_OVERHEAD_BYTES
        self.store = type(self).open_store(limits)
        self.now_ms = START_MS
        self.may_not_go_before_ms = 0
        self.waits: list[Wait] = []
        self.sent: list[Sent] = []
        self.message_ids = count(1)
        self.last_commit_seq = 0

    # Entering and claiming.

    @rule(
        path=draw.queue_paths,
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
        path: bytes,
        payload: bytes,
        priority: int,
        orphaned_s: int | None,
        exclusive: bool,
        external_id: bytes | None,
        caller: Caller,
        keyed: bool,
        pause: int | UntilDue,
    ) -> None:
        self.both(QueueAdd(path, payload, priority, orphaned_s, exclusive, external_id), caller, keyed, pause)

    @rule(
        path=draw.queue_paths,
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
        path: bytes,
        payload: bytes,
        concurrency: int,
        priority: int,
        orphaned_s: int | None,
        exclusive: bool,
        external_id: bytes | None,
        caller: Caller,
        keyed: bool,
        pause: int | UntilDue,
    ) -> None:
        ask = QueueAddAndRetrieve(path, payload, concurrency, priority, orphaned_s, exclusive, external_id)
        self.both(ask, caller, keyed, pause)

    @rule(
        path=draw.queue_paths,
        concurrency=draw.concurrencies,
        extended=st.booleans(),
        caller=draw.callers,
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def retrieve(
        self,
        path: bytes,
        concurrency: int,
        extended: bool,
        caller: Caller,
        keyed: bool,
        pause: int | UntilDue,
    ) -> None:
        self.both(QueueRetrieve(path, concurrency, extended), caller, keyed, pause)

    # Looking.

    @rule(key=draw.queue_keys, caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def get(self, key: bytes | ById, caller: Caller, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueGet(self.key(key)), caller, keyed, pause)

    @rule(
        kind=st.sampled_from([QueueList, QueuePending, QueueActive]),
        prefix=draw.queue_prefixes,
        with_payload=st.booleans(),
        caller=draw.callers,
        pause=draw.pauses,
    )
    def list_items(
        self,
        kind: type[QueueList] | type[QueuePending] | type[QueueActive],
        prefix: bytes,
        with_payload: bool,
        caller: Caller,
        pause: int | UntilDue,
    ) -> None:
        self.both(kind(prefix, with_payload), caller, False, pause)

    @rule(
        prefix=draw.queue_prefixes,
        heartbeat_ms=draw.timeouts_ms,
        orphaned_ms=draw.timeouts_ms,
        caller=draw.callers,
        pause=draw.pauses,
    )
    def to_cancel(
        self, prefix: bytes, heartbeat_ms: int, orphaned_ms: int, caller: Caller, pause: int | UntilDue
    ) -> None:
        self.both(QueueToCancel(prefix, heartbeat_ms, orphaned_ms), caller, False, pause)
        self.both(QueueStalled(prefix, heartbeat_ms), caller, False, 0)
        self.both(QueueOrphaned(prefix, orphaned_ms), caller, False, 0)

    # Working on an item and ending it.

    @rule(key=draw.queue_keys, keyed=st.booleans(), pause=draw.pauses)
    def heartbeat(self, key: bytes | ById, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueHeartbeat(self.key(key)), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, extra=draw.extras, keyed=st.booleans(), pause=draw.pauses)
    def merge_extra(self, key: bytes | ById, extra: bytes, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueMergeExtra(self.key(key), extra), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def cancel(self, key: bytes | ById, caller: Caller, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueCancel(self.key(key)), caller, keyed, pause)

    @rule(key=draw.queue_keys, value=draw.values, caller=draw.callers, keyed=st.booleans(), pause=draw.pauses)
    def ack(self, key: bytes | ById, value: bytes | None, caller: Caller, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueAck(self.key(key), value), caller, keyed, pause)

    @rule(key=draw.queue_keys, external_id=draw.external_ids, keyed=st.booleans(), pause=draw.pauses)
    def result(self, key: bytes | ById, external_id: bytes | None, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueResult(self.key(key), external_id), Caller(), keyed, pause)

    @rule(key=draw.queue_keys, timeout_ms=st.integers(1, 90_000), keyed=st.booleans(), pause=draw.pauses)
    def result_blocking(self, key: bytes | ById, timeout_ms: int, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueResultBlocking(self.key(key), timeout_ms), Caller(), keyed, pause)

    @precondition(lambda self: self.waits)
    @rule(number=st.integers(0, 99), pause=draw.pauses)
    def give_up(self, number: int, pause: int | UntilDue) -> None:
        """Whichever wait: one that was answered stays as it was."""
        self.let_pass(pause)
        wait = self.waits[number % len(self.waits)]
        self.model.give_up(wait.in_model, self.now_ms)
        self.store.give_up(wait.in_store, self.now_ms)

    @precondition(lambda self: len(self.waits) > 2)
    @rule(pause=draw.pauses)
    def end_waits(self, pause: int | UntilDue) -> None:
        self.let_pass(pause)
        self.model.end_waits(self.now_ms)
        self.store.end_waits(self.now_ms)

    @precondition(lambda self: len(self.model.queue.items) > 2)
    @rule(keyed=st.booleans(), pause=draw.pauses)
    def queue_clear(self, keyed: bool, pause: int | UntilDue) -> None:
        self.both(QueueClear(), Caller(), keyed, pause)

    # The cache.

    @rule(
        path=draw.cache_paths,
        value=draw.cache_values,
        ttl_s=draw.ttls_s,
        nx=st.booleans(),
        keyed=st.booleans(),
        pause=draw.pauses,
    )
    def cache_set(
        self, path: bytes, value: bytes, ttl_s: int | None, nx: bool, keyed: bool, pause: int | UntilDue
    ) -> None:
        self.both(CacheSet(path, value, ttl_s, nx), Caller(), keyed, pause)

    @rule(path=draw.cache_paths, pause=draw.pauses)
    def cache_get(self, path: bytes, pause: int | UntilDue) -> None:
        self.both(CacheGet(path), Caller(), False, pause)

    @rule(prefix=draw.cache_prefixes, pause=draw.pauses)
    def cache_keys(self, prefix: bytes, pause: int | UntilDue) -> None:
        self.both(CacheKeys(prefix), Caller(), False, pause)

    @rule(path=draw.cache_paths, keyed=st.booleans(), pause=draw.pauses)
    def incr(self, path: bytes, keyed: bool, pause: int | UntilDue) -> None:
        self.both(CacheIncr(path), Caller(), keyed, pause)

    @rule(path=draw.cache_paths, keyed=st.booleans(), pause=draw.pauses)
    def cache_remove(self, path: bytes, keyed: bool, pause: int | UntilDue) -> None:
        self.both(CacheRemove(path), Caller(), keyed, pause)

    @precondition(lambda self: len(self.model.cache.entries) > 2)
    @rule(keyed=st.booleans(), pause=draw.pauses)
    def cache_clear(self, keyed: bool, pause: int | UntilDue) -> None:
        self.both(CacheClear(), Caller(), keyed, pause)

    # The store as a whole.

    @rule(action=st.sampled_from(CachestoreAction), pause=draw.pauses, hard=st.integers(0, 3))
    def sys_cachestore(self, action: CachestoreAction, pause: int | UntilDue, hard: int) -> None:
        """The two that empty everything come seldom."""
        if hard or action not in (CachestoreAction.WIPE, CachestoreAction.TRUNCATE):
            action = CachestoreAction.INFO if action in (CachestoreAction.WIPE, CachestoreAction.TRUNCATE) else action
        self.both(SysCachestore(action), Caller(), False, pause)

    @rule(max_rows=st.integers(1, 5), times=st.integers(1, 3), pause=draw.pauses)
    def tick(self, max_rows: int, times: int, pause: int | UntilDue) -> None:
        self.let_pass(pause)
        self.model.tick(self.now_ms, max_rows)
        for _ in range(times):
            self.store.tick(self.now_ms, max_rows)
        self.follow_evictions(may_evict=True)

    @rule(pause=draw.pauses)
    def tick_to_the_end(self, pause: int | UntilDue) -> None:
        """Then nothing that expired is held, and no soft limit is exceeded that a run has begun to enforce."""
        self.let_pass(pause)
        self.model.tick(self.now_ms, 1)
        for _ in range(1_000):
            if not self.store.tick(self.now_ms, 1):
                break
        else:
            raise AssertionError("tick finds no end")
        self.follow_evictions(may_evict=True)
        assert self.store.gauges()["cache_keys"] == len(self.model.cache.entries)

    # Requests that are sent again.

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 99), pause=draw.pauses)
    def send_again(self, number: int, pause: int | UntilDue) -> None:
        """What had an effect is answered from memory; what had none in any case is executed."""
        sent = self.sent[-1 - number % len(self.sent)]
        self.let_pass(pause)
        before = self.state_of_model()
        if sent.must_be_kept and not self.model.kept(sent.key):
            return
        self.execute(sent.ask, sent.caller, sent.key)
        if sent.must_be_kept:
            assert self.state_of_model() == before

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 99))
    def mark_undelivered(self, number: int) -> None:
        key = self.sent[-1 - number % len(self.sent)].key
        self.model.mark_undelivered(key)
        self.store.mark_undelivered(key)

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 99))
    def confirm_delivered(self, number: int) -> None:
        keys = [self.sent[-1 - number % len(self.sent)].key]
        self.model.confirm_delivered(keys)
        self.store.confirm_delivered(keys)

    # How a statement is run.

    def both(self, ask: Statement, caller: Caller, keyed: bool, pause: int | UntilDue) -> None:
        """Let time pass, run the statement on both sides and compare."""
        self.let_pass(pause)
        if not keyed:
            self.execute(ask, caller, None)
            return
        sent = Sent((b"", b"connection", next(self.message_ids)), ask, caller, must_be_kept=False)
        before = self.state_of_model()
        refused = self.execute(ask, caller, sent.key, sent)
        sent.must_be_kept = self.state_of_model() != before
        if sent.must_be_kept or refused or not ask.has_effects:
            self.sent.append(sent)

    def execute(self, ask: Statement, caller: Caller, key: RequestKey | None, sent: Sent | None = None) -> bool:
        """Run on both sides; True when the statement was refused."""
        expected = self.outcome(self.model, ask, caller, key)
        actual = self.outcome(self.store, ask, caller, key)
        if isinstance(expected, Pending):
            assert isinstance(actual, Pending), f"should wait: {actual!r}"
            assert actual.timeout_ms == expected.timeout_ms
            self.waits.append(Wait(sent, expected, actual))
            return False
        assert not isinstance(actual, Pending), f"should not wait but answer {expected!r}"
        if isinstance(ask, SysCachestore) and ask.action in (CachestoreAction.EVICTION, CachestoreAction.INFO):
            self.compare_figures(ask.action, expected, actual)
        else:
            assert_same(expected, actual)
        self.follow_evictions(may_evict=isinstance(ask, MAY_EVICT), written=getattr(ask, "path", None))
        return isinstance(expected, StatementError)

    def outcome(
        self, store: Store, ask: Statement, caller: Caller, key: RequestKey | None
    ) -> Result | StatementError | Pending:
        try:
            outcome = store.execute(ask, caller, key, self.now_ms)
        except StatementError as error:
            return error
        if isinstance(outcome, Pending):
            return outcome
        if store is self.store:
            assert self.last_commit_seq <= outcome.commit_seq <= store.durable_seq
            self.last_commit_seq = outcome.commit_seq
        return outcome.result

    def key(self, key: bytes | ById) -> KeyRef:
        return max(self.model.queue.next_id - key.ago, 1) if isinstance(key, ById) else key

    def let_pass(self, pause: int | UntilDue) -> None:
        """Move the clock. It does not step back over the end of a kept answer: an engine forgets that when it likes."""
        if isinstance(pause, int):
            now_ms = self.now_ms + pause
        else:
            now_ms = min((end for end in self.ends() if end >= self.now_ms), default=self.now_ms) + pause.off_by_ms
        self.now_ms = max(now_ms, self.may_not_go_before_ms)
        over = [end for end in self.ends_of_answers() if end <= self.now_ms]
        self.may_not_go_before_ms = max([self.may_not_go_before_ms, *over])

    def ends(self) -> list[int]:
        """When something of the model ends."""
        queue, cache = self.model.queue, self.model.cache
        return [
            *(queue.end_of(item) for item in queue.items),
            *(result.expire_ms for result in queue.results),
            *(entry.expire_ms for entry in cache.entries if entry.expire_ms is not None),
            *self.ends_of_answers(),
        ]

    def ends_of_answers(self) -> list[int]:
        return [self.model.answer_end(answer) for answer in self.model.answers]

    def state_of_model(self) -> str:
        self.model.strike(self.now_ms)
        return repr((self.model.queue.items, self.model.queue.results, self.model.cache.entries))

    def follow_evictions(self, *, may_evict: bool, written: bytes | None = None) -> None:
        """Take out of the model what the store evicted, if it was allowed to."""
        self.model.strike(self.now_ms)
        cache = self.model.cache
        shown = {row[0] for prefix in draw.CACHE_PREFIXES for row in self.keys_of_store(prefix)}
        victims = [entry for entry in cache.entries if entry.path not in shown]
        gauges = self.store.gauges()
        if victims:
            assert may_evict, f"gone: {victims}"
            survivors = [entry for entry in cache.entries if entry not in victims and entry.path != written]
            held = gauges["cache_keys"], gauges["cache_bytes"]
            assert_allowed_victims(cache, victims, survivors, held, self.now_ms)
            cache.drop([victim.path for victim in victims])
        assert gauges["cache_keys"] <= cache.limits.max_keys * 1.25
        assert gauges["cache_bytes"] <= cache.limits.max_bytes * 1.25

    def keys_of_store(self, prefix: bytes) -> list[tuple[object, ...]]:
        outcome = self.store.execute(CacheKeys(prefix + b":"), Caller(), None, self.now_ms)
        assert isinstance(outcome, Reply)
        return list(outcome.result.rows)

    def compare_figures(
        self, action: CachestoreAction, expected: Result | StatementError, actual: Result | StatementError
    ) -> None:
        """INFO and EVICTION have the same names; the queue's figures are the same."""
        assert isinstance(expected, Result)
        assert isinstance(actual, Result)
        mine, theirs = ({row[0]: row[1] for row in table.rows} for table in (expected, actual))
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert isinstance(name, bytes)
            if action is CachestoreAction.INFO and name.startswith(b"Queue"):
                assert mine[name] == theirs[name], name

    # What is compared after each step.

    @invariant()
    def is_the_same(self) -> None:
        self.store.check_invariants()
        self.model.check_invariants()
        self.shows_the_same()
        self.counts_the_same()
        self.waiters_were_told_the_same()

    def shows_the_same(self) -> None:
        for prefix in draw.QUEUE_PREFIXES:
            for caller in draw.CALLERS:
                self.execute(QueueList(prefix, with_payload=True), caller, None)
            self.execute(QueueActive(prefix), draw.CALLERS[-1], None)
            self.execute(QueueToCancel(prefix, 0, 0), Caller(), None)
        for prefix in draw.CACHE_PREFIXES:
            self.execute(CacheKeys(prefix + b":"), Caller(), None)

    def counts_the_same(self) -> None:
        counted, gauges = self.model.gauges(), self.store.gauges()
        assert {name: gauges[name] for name in counted} == counted

    def waiters_were_told_the_same(self) -> None:
        for wait in self.waits:
            assert len(wait.told_by_store) == len(wait.told_by_model) <= 1, wait
            for expected, actual in zip(wait.told_by_model, wait.told_by_store, strict=True):
                assert isinstance(expected, Reply)
                assert isinstance(actual, Reply)
                assert_same(expected.result, actual.result)
                if wait.sent and expected.result.rows and not wait.sent.must_be_kept:
                    wait.sent.must_be_kept = True
                    self.sent.append(wait.sent)

    def teardown(self) -> None:
        """At the end every value is read once."""
        if not hasattr(self, "store"):
            return
        for path in draw.QUEUE_PATHS:
            self.execute(QueueGet(path), Caller(), None)
        for path in draw.CACHE_PATHS:
            self.execute(CacheGet(path), Caller(), None)
        for id_ in range(FIRST_ID, self.model.queue.next_id):
            self.execute(QueueResult(id_), Caller(), None)
            self.execute(QueueGet(id_), Caller(), None)
