"""Every transition of tests/storage/transitions.py, and that no other event changes the state."""

from __future__ import annotations

import pytest

from storage.vocabulary import QueueList, QueueMergeExtra, QueueResult
from tests.asking import Told
from tests.storage.queue_world import HOUR_MS, World
from tests.storage.transitions import ITEM_TRANSITIONS, RESULT_TRANSITIONS, WAITER_TRANSITIONS, Event, State, Transition

PATH = b"p:k"
ITEM_EVENTS = set(Event) - {Event.TIMEOUT, Event.READ_BY_PATH, Event.READ_BY_ID, Event.ACK_WITH_WAITER}
RESULT_EVENTS = (Event.READ_BY_PATH, Event.READ_BY_ID, Event.CLEAR, Event.EXPIRE)


def complete(table: tuple[Transition, ...], events: set[Event], states: tuple[State, ...]) -> list[Transition]:
    """The table, and what it leaves out: an event that changes nothing."""
    stated = {(state, event): then for state, event, then in table}
    pairs = [(state, event) for state in states for event in sorted(events, key=lambda event: event.value)]
    return [Transition(state, event, stated.get((state, event), state)) for state, event in pairs]


def item_in(state: State) -> World:
    world = World()
    if state is not State.ABSENT:
        world.add(PATH)
    if state is State.ACTIVE:
        assert world.retrieve(PATH)
    return world


def state_of_item(world: World) -> State:
    rows = world.run(QueueList(b"p"))
    return State(str(rows[0][2], "ascii")) if rows and isinstance(rows[0][2], bytes) else State.ABSENT


def happen(world: World, event: Event) -> None:
    match event:
        case Event.ADD:
            world.add(PATH)
        case Event.CLAIMING_ADD:
            world.add_and_retrieve(PATH, 5)
        case Event.WAITING_ADD:
            world.add_and_retrieve(PATH, 0)
        case Event.RETRIEVE:
            world.retrieve(PATH)
        case Event.HEARTBEAT:
            world.heartbeat(PATH)
        case Event.MERGE_EXTRA:
            world.run(QueueMergeExtra(PATH, b"{}"))
        case Event.ACK:
            world.ack(PATH)
        case Event.ACK_NULL:
            world.ack(PATH, None)
        case Event.CANCEL:
            world.cancel(PATH)
        case Event.CLEAR:
            world.clear()
        case Event.EXPIRE:
            world.later(4 * HOUR_MS)
        case Event.READ_BY_PATH:
            world.result(PATH)
        case Event.READ_BY_ID:
            world.result(1)
        case _:
            raise NotImplementedError(event)


@pytest.mark.parametrize(
    ("state", "event", "then"), complete(ITEM_TRANSITIONS, ITEM_EVENTS, (State.ABSENT, State.PENDING, State.ACTIVE))
)
def test_item(state: State, event: Event, then: State) -> None:
    world = item_in(state)
    assert state_of_item(world) is state
    happen(world, event)
    assert state_of_item(world) is then
    world.check()


def result_in(state: State) -> World:
    world = World()
    world.add(PATH)
    if state is not State.NONE:
        world.ack(PATH)
    if state is State.TAKEN:
        world.result(PATH)
    return world


def state_of_result(world: World) -> State:
    """By id first: that reading changes nothing."""
    if not world.run(QueueResult(1)):
        return State.NONE
    return State.TAKEN if world.result(PATH) is None else State.STORED


@pytest.mark.parametrize(
    ("state", "event", "then"), complete(RESULT_TRANSITIONS, set(RESULT_EVENTS), (State.STORED, State.TAKEN))
)
def test_result(state: State, event: Event, then: State) -> None:
    world = result_in(state)
    happen(world, event)
    world.check()
    assert state_of_result(world) is then


@pytest.mark.parametrize(("state", "event", "then"), [row for row in RESULT_TRANSITIONS if row.state is State.NONE])
def test_result_begins(state: State, event: Event, then: State) -> None:
    world = result_in(state)
    if event is Event.ACK_WITH_WAITER:
        world.wait(1)
    world.ack(PATH)
    world.check()
    assert state_of_result(world) is then


WAITER_EVENTS = {Event.ACK, Event.ACK_NULL, Event.CANCEL, Event.CLEAR, Event.HEARTBEAT, Event.RETRIEVE, Event.TIMEOUT}


@pytest.mark.parametrize("key", [PATH, 1], ids=["by path", "by id"])
@pytest.mark.parametrize(("state", "event", "then"), complete(WAITER_TRANSITIONS, WAITER_EVENTS, (State.WAITING,)))
def test_waiter(state: State, event: Event, then: State, key: bytes | int) -> None:
    world = World()
    world.add(PATH)
    wait: Told = world.wait(key)
    if event is Event.TIMEOUT:
        world.store.give_up(wait, world.now_ms)
    else:
        happen(world, event)
    assert len(wait.outcomes) == (1 if then is State.ANSWERED else 0)
    assert world.gauge("waiters") == (0 if then is State.ANSWERED else 1)
    world.check()
