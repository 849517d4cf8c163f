"""Where the microseconds of a request go: each layer alone, called in this process with the same life cycles."""

from __future__ import annotations

import gc
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import plans, servers
from bench.measure import measure
from bench.record import Bench, Line, line
from protocol.arrow import arrow_message
from protocol.commands import parse_statement
from protocol.encode import result_message
from protocol.messages import Request
from protocol.pieces import Message
from protocol.session import Session
from storage.asking import ANYBODY, Later, Outcome
from storage.engine import Store
from storage.journal.database import Database
from storage.journal.host import Host
from storage.journal.store import Durability, JournaledStore
from storage.keys import first_id
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import RequestKey, Result, Statement

SHAPE = (16, 16)
_GROUP = 16  # statements of one turn of the loop, which the journal commits together
_NOW_MS = 1_700_000_000_000
_FIRST_ID = first_id(_NOW_MS)

_MESSAGE_ID = struct.pack("<I", plans.MESSAGE_ID)

ValueT = TypeVar("ValueT")
MadeT = TypeVar("MadeT")


def layers(bench: Bench) -> Iterator[Line]:
    """The whole on a server, and its layers; what is left over is the way between them, sockets above all."""
    cycles = bench.scaled(4_000, 1_000)
    for name, is_arrow in (("legacy", False), ("Arrow", True)):
        steps = plans.full_life_cycle()
        steps = plans.in_arrow(steps) if is_arrow else steps
        figures = _alone(steps, cycles, arrow_message if is_arrow else result_message)
        plan = bench.folder / "layers"
        for server, key in (("echo", "framing_and_socket_us"), ("cubequeue", "whole_us")):
            plan.write_text(plans.ws_plan(steps, echo=server == "echo"))
            with getattr(servers, server)() as running:
                figures[key] = measure(bench.load, plan, running, SHAPE, bench.seconds).server_us
        parts = ("framing_and_socket_us", "decode_us", "parse_us", "state_us", "encode_us")
        figures["rest_us"] = figures["whole_us"] - sum(figures[part] for part in parts)
        order = (*parts, "rest_us", "whole_us", "journal_us")
        yield line("layers", f"life cycle, a request of, {name}", {each: figures[each] for each in order})


def _alone(steps: Sequence[plans.Step], cycles: int, encode: Callable[[int, Result], Message]) -> dict[str, float]:
    """Microseconds of processor time a request, layer by layer."""
    messages = [
        plans.filled_in(plans.ws_message(step), b"%032d" % cycle, _FIRST_ID + cycle)
        for cycle in range(cycles)
        for step in steps
    ]
    messages = [message.replace(_MESSAGE_ID, struct.pack("<I", at), 1) for at, message in enumerate(messages)]
    session = Session(b"", 0.0)
    received, decode_us = _timed(session.receive, messages)
    requests: list[Request] = [request for request in received if request is not None]
    assert len(requests) == len(messages), "none is a repeat"
    statements, parse_us = _timed(lambda each: parse_statement(each.query, each.parameters), requests)
    results, state_us = _executed(_memory_store(), statements, lambda: None)
    _, encode_us = _timed(lambda each: encode(1, each), results)
    with tempfile.TemporaryDirectory() as folder:
        due: list[Callable[[], None]] = []
        store = _journaled_store(Path(folder), due)

        def commit() -> None:
            while due:
                due.pop()()

        commit()
        _, journaled_us = _executed(store, statements, commit)
        store.close()
    return {
        "decode_us": decode_us,
        "parse_us": parse_us,
        "state_us": state_us,
        "encode_us": encode_us,
        "journal_us": journaled_us - state_us,
    }


def _timed(work: Callable[[ValueT], MadeT], values: Sequence[ValueT]) -> tuple[list[MadeT], float]:
    gc.collect()
    started = time.process_time()
    made = [work(value) for value in values]
    return made, (time.process_time() - started) / len(values) * 1e6


class _Dropped(Later):
    """An answer that nobody waits for."""

    __slots__ = ()

    def done(self, outcome: Outcome) -> None:
        """Nobody is told."""


def _executed(store: Store, statements: Sequence[Statement], commit: Callable[[], None]) -> tuple[list[Result], float]:
    """All statements in their order, each with a key of its own; `commit` is called once a group."""
    keys: list[RequestKey] = [(b"", plans.CONNECTION_ID, at) for at in range(len(statements))]
    answers: list[Result | Later] = []
    gc.collect()
    started = time.process_time()
    for at, statement in enumerate(statements):
        answers.append(store.execute(statement, ANYBODY, keys[at], _NOW_MS))
        if at % _GROUP == _GROUP - 1:
            commit()
    taken_us = (time.process_time() - started) / len(statements) * 1e6
    return [answer for answer in answers if isinstance(answer, Result)], taken_us


def _memory_store() -> MemoryStore:
    return MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), _FIRST_ID, random.random, _Dropped)


def _journaled_store(folder: Path, due: list[Callable[[], None]]) -> JournaledStore:
    def fail(reason: str) -> None:
        raise RuntimeError(reason)

    def at_once(work: Callable[[], None], then: Callable[[], None]) -> None:
        work()
        then()

    host = Host(
        call_soon=due.append,
        call_later=lambda _delay_ms, work: due.append(work),
        in_thread=at_once,
        batch=lambda complete: complete(),
        now_ms=lambda: _NOW_MS,
        random=random.random,
        fail=fail,
        new_later=_Dropped,
    )
    return JournaledStore(
        Database(folder),
        QueueLimits(),
        CacheLimits(),
        AnswerLimits(),
        host,
        None,
        Durability.RELAXED,
        Durability.RELAXED,
    )
