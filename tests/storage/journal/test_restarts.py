"""The machine of the model, with a restart from the journal between any two statements."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from storage.interface import ANYBODY, Reply, StateMachine
from storage.journal.store import JournaledStore
from storage.limits import AnswerLimits
from storage.vocabulary import CacheIncr
from tests.conformance.engines import FIRST_ID, Limits
from tests.model.machine import StoreMachine
from tests.storage.journal.restarting import RestartingStore, RowsEngine, Turns, opened


class JournaledMachine(StoreMachine):
    """Restarted all the time."""

    def open_store(self, limits: Limits) -> StateMachine:
        return RestartingStore(limits.queue, limits.cache, limits.answers, FIRST_ID, every=7)


QUICK = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_restart_changes_nothing() -> None:
    run_state_machine_as_test(JournaledMachine, settings=QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_restart_changes_nothing_at_length() -> None:
    run_state_machine_as_test(JournaledMachine, settings=settings(QUICK, max_examples=2_000, stateful_step_count=80))


def test_regression_answers_that_outlived_their_time_through_restarts_give_way() -> None:
    """Each restart counts them as new. A server that ended every few seconds for an hour kept all, and would have
    refused writes in the end."""
    minute_ms, start_ms = 60_000, 1_764_000_000_000
    limits = AnswerLimits(give_way_bytes=20 * 600, max_bytes=40 * 600, keep_ms=minute_ms)
    engine, turns = RowsEngine(), Turns()

    def begin(at_ms: int) -> JournaledStore:
        store = opened(engine, turns, answers=limits, now_ms=start_ms + at_ms)
        turns.all()
        return store

    def count(store: JournaledStore, message_id: int, at_ms: int) -> bytes:
        reply = store.execute(CacheIncr(b"c:n"), ANYBODY, (b"", b"client", message_id), start_ms + at_ms)
        turns.all()
        assert isinstance(reply, Reply)
        value = reply.result.rows[0][0]
        assert isinstance(value, bytes)
        return value

    message_id = 0
    for life in range(20):
        at_ms = life * 20_000
        store = begin(at_ms)
        for _ in range(4):
            message_id += 1
            count(store, message_id, at_ms)
    assert message_id > 60, "more than there is room for"
    at_ms += 10_000
    assert store.gauges()["answer_bytes"] < 25 * 600
    store = begin(at_ms + 3_600_000)  # nobody was there for an hour: whoever asks again gets the answer all the same
    assert [count(store, number, at_ms) for number in range(message_id - 11, message_id + 1)] == [
        b"%d" % number for number in range(message_id - 11, message_id + 1)
    ]
