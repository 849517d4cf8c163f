"""An engine and the naive model side by side: one clock, every statement on both, and what must then be the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeAlias

from storage.asking import Caller
from storage.errors import StatementError
from storage.limits import QueueLimits
from storage.queue.statements import RESULT_OVERHEAD_BYTES
from storage.vocabulary import (
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheSet,
    CachestoreAction,
    Effect,
    KeyRef,
    QueueActive,
    QueueGet,
    QueueList,
    QueueOrphaned,
    QueueResult,
    QueueStalled,
    QueueToCancel,
    RequestKey,
    Result,
    Statement,
    SysCachestore,
)
from tests.asking import Told
from tests.audit import audit
from tests.conformance.client import Asked, Client
from tests.conformance.engines import FIRST_ID, Candidate, Limits
from tests.model.comparison import assert_allowed_victims, assert_same
from tests.model.naive import NaiveStore
from tests.model.records import prefix_of
from tests.model.strategies import CALLERS, ById, UntilDue

Pause: TypeAlias = int | UntilDue
Key: TypeAlias = int | ById

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
    in_model: Told
    in_store: Asked


class Twins:
    """The model and the store. Any difference is an AssertionError."""

    def __init__(self, engine: Candidate, limits: Limits, queue_paths: list[bytes], cache_paths: list[bytes]) -> None:
        if not engine.counts_waiters:
            limits = replace(limits, queue=replace(limits.queue, max_waiters=QueueLimits().max_waiters))
        self.model = NaiveStore(limits.queue, limits.cache, limits.answers, FIRST_ID, evicts=False)
        self.model.queue.result_overhead_bytes = RESULT_OVERHEAD_BYTES
        self.engine = engine
        self.client = Client(engine, limits)
        self.store = self.client.store
        self.queue_paths, self.cache_paths = queue_paths, cache_paths
        self.queue_prefixes = sorted({prefix_of(path) for path in queue_paths})
        self.cache_prefixes = sorted({prefix_of(path) for path in cache_paths})
        self.now_ms = START_MS
        self.may_not_go_before_ms = 0
        self.waits: list[Wait] = []
        self.sent: list[Sent] = []
        self.message_ids = count(1)
        self.are_alike = True

    def both(self, ask: Statement, caller: Caller, keyed: bool, pause: Pause) -> None:
        """Let time pass, run the statement on both sides and compare."""
        self.let_pass(pause)
        if keyed:
            self.send(ask, caller)
        else:
            self.compare(ask, caller, None)
        self.follow_evictions_of(ask)

    def send(self, ask: Statement, caller: Caller) -> None:
        """Run a statement under a request key, and learn whether it had an effect: then its answer is kept."""
        sent = Sent((b"", b"connection", next(self.message_ids)), ask, caller, must_be_kept=False)
        before = self.state_of_model()
        refused = self.compare(ask, caller, sent.key, sent)
        sent.must_be_kept = ask.effect is Effect.KEPT and self.state_of_model() != before
        if sent.must_be_kept or refused or ask.effect is not Effect.KEPT:
            self.sent.append(sent)

    def compare(self, ask: Statement, caller: Caller, key: RequestKey | None, sent: Sent | None = None) -> bool:
        """Run on both sides; True when the statement was refused."""
        expected = self.outcome_in_model(ask, caller, key)
        asked = self.client.send(ask, caller, key, self.now_ms)
        actual = self.client.answer(asked)
        if isinstance(expected, Told):
            assert actual is None, f"should wait: {actual!r}"
            assert isinstance(asked.outcome, Told)
            assert asked.outcome.timeout_ms == expected.timeout_ms
            self.waits.append(Wait(sent, expected, asked))
            return False
        assert actual is not None, f"should not wait but answer {expected!r}"
        if isinstance(ask, SysCachestore) and ask.action in (CachestoreAction.EVICTION, CachestoreAction.INFO):
            self.compare_figures(ask.action, expected, actual)
        else:
            assert_same(expected, actual)
        return isinstance(expected, StatementError)

    def outcome_in_model(
        self, ask: Statement, caller: Caller, key: RequestKey | None
    ) -> Result | StatementError | Told:
        try:
            outcome = self.model.execute(ask, caller, key, self.now_ms)
        except StatementError as error:
            return error
        assert isinstance(outcome, Result | Told)
        return outcome

    def give_up(self, number: int, pause: Pause) -> None:
        self.let_pass(pause)
        wait = self.waits[number % len(self.waits)]
        self.model.give_up(wait.in_model, self.now_ms)
        assert isinstance(wait.in_store.outcome, Told)
        self.store.give_up(wait.in_store.outcome, self.now_ms)

    def end_waits(self, pause: Pause) -> None:
        self.let_pass(pause)
        self.model.end_waits(self.now_ms)
        self.store.end_waits(self.now_ms)

    def send_again(self, number: int, pause: Pause) -> None:
        """What had an effect is answered from memory. Reads and what was refused are executed; whether an engine
        keeps an answer that changed nothing is its own choice, so it is not asked for a third time."""
        self.let_pass(pause)
        sent = self.sent[-1 - number % len(self.sent)]
        before = self.state_of_model()
        if sent.must_be_kept and not self.model.kept(sent.key):
            return
        refused = self.compare(sent.ask, sent.caller, sent.key)
        self.follow_evictions_of(sent.ask)
        if sent.must_be_kept:
            assert self.state_of_model() == before
        elif sent.ask.effect is Effect.KEPT and not refused:
            self.sent.remove(sent)

    def learn_of_delivery(self, number: int, *, has_arrived: bool) -> None:
        key = self.sent[-1 - number % len(self.sent)].key
        for store in (self.model, self.store):
            if has_arrived:
                store.confirm_delivered([key])
            else:
                store.mark_undelivered(key)

    def tick(self, max_rows: int, pause: Pause) -> bool:
        """True when the store has more to do."""
        self.let_pass(pause)
        self.model.tick(self.now_ms, max_rows)
        has_more = self.client.has_more_after_tick(self.now_ms, max_rows)
        self.follow_evictions(may_evict=True)
        return has_more

    def tick_to_the_end(self, pause: Pause) -> None:
        """It comes soon, and then nothing that expired is held."""
        self.let_pass(pause)
        for _ in range(200):
            if not self.tick(1, 0):
                break
        else:
            raise AssertionError("tick finds no end")
        gauges = self.client.gauges()
        assert gauges["cache_keys"] == len(self.model.cache.entries)
        self.is_within_hard_limits(gauges)

    def key(self, key: Key) -> KeyRef:
        """The next id to come is no id at all for an engine whose ids cannot be known ahead."""
        if not isinstance(key, ById):
            return self.queue_path(key)
        if key.ago == 0 and not self.engine.ids_go_by_one:
            return 1
        return max(self.model.queue.next_id - key.ago, 1)

    def queue_path(self, choice: int) -> bytes:
        return self.queue_paths[choice % len(self.queue_paths)]

    def cache_path(self, choice: int) -> bytes:
        return self.cache_paths[choice % len(self.cache_paths)]

    def let_pass(self, pause: Pause) -> None:
        """Move the clock. It does not step back over the end of a kept answer: an engine forgets that when it likes."""
        self.are_alike = False
        if isinstance(pause, int):
            now_ms = self.now_ms + pause
        else:
            now_ms = min((end for end in self.ends() if end >= self.now_ms), default=self.now_ms) + pause.off_by_ms
        self.now_ms = max(now_ms, self.may_not_go_before_ms if self.engine.time_may_fall else self.now_ms)
        over = [end for end in self.ends_of_answers() if end <= self.now_ms]
        self.may_not_go_before_ms = max([self.may_not_go_before_ms, *over])

    def let_pass_until(self, then_ms: int) -> None:
        """On to a moment, if it lies ahead."""
        self.let_pass(max(then_ms - self.now_ms, 0))

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

    def follow_evictions_of(self, ask: Statement) -> None:
        self.follow_evictions(may_evict=isinstance(ask, MAY_EVICT), written=getattr(ask, "path", None))

    def follow_evictions(self, *, may_evict: bool, written: bytes | None = None) -> None:
        """Take out of the model what the store evicted, if it was allowed to."""
        self.model.strike(self.now_ms)
        cache = self.model.cache
        shown = {row[0] for prefix in self.cache_prefixes for row in self.keys_of_store(prefix)}
        victims = [entry for entry in cache.entries if entry.path not in shown]
        gauges = self.client.gauges()
        if victims and not self.engine.exact_eviction:
            cache.drop([victim.path for victim in victims])
        elif victims:
            assert may_evict, f"gone: {victims}"
            survivors = [entry for entry in cache.entries if entry not in victims and entry.path != written]
            held = gauges["cache_keys"], gauges["cache_bytes"]
            assert_allowed_victims(cache, victims, survivors, held, self.now_ms)
            cache.drop([victim.path for victim in victims])
        if self.engine.exact_eviction:
            self.is_within_hard_limits(gauges)

    def is_within_hard_limits(self, gauges: dict[str, int]) -> None:
        limits = self.model.cache.limits
        assert gauges["cache_keys"] <= limits.max_keys * 1.25
        assert gauges["cache_bytes"] <= limits.max_bytes * 1.25

    def keys_of_store(self, prefix: bytes) -> list[tuple[object, ...]]:
        answer = self.client.answer(self.client.send(CacheKeys(prefix + b":"), Caller(), None, self.now_ms))
        assert isinstance(answer, Result)
        return list(answer.rows)

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

    def assert_alike(self) -> None:
        audit(self.store)
        audit(self.model)
        self.shows_the_same()
        self.counts_the_same()
        self.waiters_were_told_the_same()
        self.are_alike = True

    def shows_the_same(self) -> None:
        for prefix in self.queue_prefixes:
            for caller in CALLERS:
                self.compare(QueueList(prefix, with_payload=True), caller, None)
            self.compare(QueueActive(prefix), CALLERS[-1], None)
            for age_ms in self.ages(prefix):
                self.compare(QueueToCancel(prefix, age_ms, age_ms), Caller(), None)
                self.compare(QueueStalled(prefix, age_ms), Caller(), None)
                self.compare(QueueOrphaned(prefix, age_ms), Caller(), None)
        for prefix in self.cache_prefixes:
            self.compare(CacheKeys(prefix + b":"), Caller(), None)
        self.shows_the_same_results()

    def shows_the_same_results(self) -> None:
        """By id, and by an external id that is there: the ways to read a result that take nothing."""
        newest = self.model.queue.next_id
        for id_ in range(max(newest - 4, 1), newest):
            self.compare(QueueResult(id_), Caller(), None)
            self.compare(QueueResult(id_, b"e"), Caller(), None)
        for path, external_id in sorted({(r.path, r.external_id) for r in self.model.queue.results if r.external_id}):
            self.compare(QueueResult(path, external_id), Caller(), None)

    def ages(self, prefix: bytes) -> Iterator[int]:
        """How long ago the items came and last beat, and the next smaller: the timeouts that tell them apart."""
        items = [item for item in self.model.queue.items if item.prefix == prefix]
        times = {item.created_ms for item in items} | {item.heartbeat_ms or item.created_ms for item in items}
        return (self.now_ms - time_ms - less for time_ms in times for less in (0, 1) if self.now_ms - time_ms > less)

    def counts_the_same(self) -> None:
        counted, gauges = self.model.gauges(), self.client.gauges()
        assert {name: gauges[name] for name in counted} == counted

    def waiters_were_told_the_same(self) -> None:
        for wait in self.waits:
            told = self.client.answers(wait.in_store)
            assert len(told) == len(wait.in_model.outcomes) <= 1, wait
            for expected, actual in zip(wait.in_model.outcomes, told, strict=True):
                assert isinstance(expected, Result)
                assert_same(expected, actual)
                if wait.sent and expected.rows and not wait.sent.must_be_kept:
                    wait.sent.must_be_kept = True
                    self.sent.append(wait.sent)

    def read_everything(self) -> None:
        """Every value once, which is a use or a taking."""
        ids = range(FIRST_ID, self.model.queue.next_id)
        asks: list[Statement] = [
            *(CacheGet(path) for path in self.cache_paths),
            *(QueueGet(id_) for id_ in ids),
            *(QueueResult(id_) for id_ in ids),
            *(QueueResult(path) for path in self.queue_paths),
        ]
        for ask in asks:
            self.compare(ask, Caller(), None)
