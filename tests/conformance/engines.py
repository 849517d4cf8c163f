"""The engines under test, by name. A new engine adds one line to `ENGINES` and passes everything in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from tests.model.naive import NaiveStore
from tests.storage.journal.restarting import RestartingStore

FIRST_ID = 101


@dataclass(frozen=True)
class Limits:
    """Everything that bounds an engine."""

    queue: QueueLimits = field(default_factory=QueueLimits)
    cache: CacheLimits = field(default_factory=CacheLimits)
    answers: AnswerLimits = field(default_factory=AnswerLimits)


def naive(limits: Limits) -> StateMachine:
    return NaiveStore(limits.queue, limits.cache, limits.answers, FIRST_ID)


def memory(limits: Limits) -> StateMachine:
    return MemoryStore(limits.queue, limits.cache, limits.answers, FIRST_ID, Random(0).random)


def journaled(limits: Limits) -> StateMachine:
    return RestartingStore(limits.queue, limits.cache, limits.answers, FIRST_ID, every=1)


ENGINES: dict[str, Callable[[Limits], StateMachine]] = {"naive": naive, "memory": memory, "journaled": journaled}
