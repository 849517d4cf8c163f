"""Where the microseconds of a request go: each layer alone, called in this process with the same life cycles."""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import plans, servers
from bench.measure import measure
from bench.record import Bench, Line, line
from protocol.arrow import arrow_message
from protocol.encode import result_message
from protocol.parser import parse_statement
from protocol.pieces import Message
from protocol.request_decoder import RequestDecoder
from storage.engine import ANYBODY, Pending, Reply, RequestKey, Store
from storage.journal.database import Database
from storage.journal.store import Durability, JournaledStore, Surroundings
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Result, Statement

SHAPE = (16, 16)
_GROUP = 16  # statements of one turn of the loop, which the journal commits together
_NOW_MS = 1_700_000_000_000
_FIRST_ID = 1

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
        plans.ws_message(step).replace(plans.KEY, b"%032d" % cycle) for cycle in range(cycles) for step in steps
    ]
    requests, decode_us = _timed(RequestDecoder().decode, messages)
    statements, parse_us = _timed(lambda each: parse_statement(each.query, each.parameters), requests)
    replies, state_us = _executed(_memory_store(), statements, lambda: None)
    _, encode_us = _timed(lambda each: encode(1, each.result), replies)
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


def _executed(store: Store, statements: Sequence[Statement], commit: Callable[[], None]) -> tuple[list[Reply], float]:
    """All statements in their order, each with a key of its own; `commit` is called once a group."""
    keys: list[RequestKey] = [(b"", plans.CONNECTION_ID, at) for at in range(len(statements))]
    replies: list[Reply | Pending] = []
    gc.collect()
    started = time.process_time()
    for at, statement in enumerate(statements):
        replies.append(store.execute(statement, ANYBODY, keys[at], _NOW_MS))
        if at % _GROUP == _GROUP - 1:
            commit()
    taken_us = (time.process_time() - started) / len(statements) * 1e6
    return [reply for reply in replies if isinstance(reply, Reply)], taken_us


def _memory_store() -> MemoryStore:
    return MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), _FIRST_ID, random.random)


def _journaled_store(folder: Path, due: list[Callable[[], None]]) -> JournaledStore:
    def fail(reason: str) -> None:
        raise RuntimeError(reason)

    def at_once(work: Callable[[], None], then: Callable[[], None]) -> None:
        work()
        then()

    surroundings = Surroundings(
        later=lambda work, _delay_ms: due.append(work),
        in_thread=at_once,
        now_ms=lambda: _NOW_MS,
        random=random.random,
        fail=fail,
    )
    return JournaledStore(
        Database(folder),
        QueueLimits(),
        CacheLimits(),
        AnswerLimits(),
        surroundings,
        None,
        Durability.RELAXED,
        Durability.RELAXED,
    )
