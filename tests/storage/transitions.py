"""The life cycles of state-machine.md §1 to §3 as data: for the tests that drive them and the docs that draw them.

An event that is missing for a state changes nothing in it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.Enum):
    """Where an item, a result or a waiter is."""

    # An item.
    ABSENT = "absent"
    PENDING = "pending"
    ACTIVE = "active"
    # A result: `taken` is hidden from readers by path, `gone` from all.
    NONE = "none"
    STORED = "stored"
    TAKEN = "taken"
    # A waiter.
    WAITING = "waiting"
    ANSWERED = "answered"


class Event(enum.Enum):
    """What happens to it."""

    ADD = "ADD"
    CLAIMING_ADD = "ADD_AND_RETRIEVE with room"
    WAITING_ADD = "ADD_AND_RETRIEVE without room"
    RETRIEVE = "RETRIEVE with room"
    HEARTBEAT = "HEARTBEAT"
    MERGE_EXTRA = "MERGE_EXTRA"
    ACK = "ACK value"
    ACK_WITH_WAITER = "ACK value, somebody waits for the id"
    ACK_NULL = "ACK NULL"
    CANCEL = "CANCEL"
    CLEAR = "CLEAR"
    EXPIRE = "expiry"
    READ_BY_PATH = "RESULT path"
    READ_BY_ID = "RESULT id"
    TIMEOUT = "timeout"


class Transition(NamedTuple):
    """In `state`, `event` leads to `then`."""

    state: State
    event: Event
    then: State


def _all(state: State, *pairs: tuple[Event, State]) -> tuple[Transition, ...]:
    return tuple(Transition(state, event, then) for event, then in pairs)


_ITEM_ENDS = tuple(
    (event, State.ABSENT) for event in (Event.ACK, Event.ACK_NULL, Event.CANCEL, Event.CLEAR, Event.EXPIRE)
)

ITEM_TRANSITIONS = (
    *_all(
        State.ABSENT,
        (Event.ADD, State.PENDING),
        (Event.WAITING_ADD, State.PENDING),
        (Event.CLAIMING_ADD, State.ACTIVE),
    ),
    *_all(State.PENDING, (Event.RETRIEVE, State.ACTIVE), (Event.CLAIMING_ADD, State.ACTIVE), *_ITEM_ENDS),
    *_all(State.ACTIVE, *_ITEM_ENDS),
)

RESULT_TRANSITIONS = (
    *_all(State.NONE, (Event.ACK, State.STORED), (Event.ACK_WITH_WAITER, State.TAKEN)),
    *_all(
        State.STORED,
        (Event.READ_BY_PATH, State.TAKEN),
        (Event.CLEAR, State.NONE),
        (Event.EXPIRE, State.NONE),
    ),
    *_all(State.TAKEN, (Event.CLEAR, State.NONE), (Event.EXPIRE, State.NONE)),
)

WAITER_TRANSITIONS = _all(
    State.WAITING, (Event.ACK, State.ANSWERED), (Event.ACK_NULL, State.ANSWERED), (Event.TIMEOUT, State.ANSWERED)
)
