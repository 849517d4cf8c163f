"""The load generator sends what the plans say, to a real server and to Redis, and counts what is no answer to it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import plans, servers
from bench.client import Client
from bench.measure import build_load, run_steps

CYCLES = 3


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_load(tmp_path_factory.mktemp("load"))


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Running]:
    with servers.cubequeue() as running:
        yield running


def plan_of(folder: Path, text: str) -> Path:
    plan = folder / "plan"
    plan.write_text(text)
    return plan


def requests_of(steps: list[plans.Step]) -> int:
    """Those that are sent once, and some cycles."""
    once = sum(step.is_once for step in steps)
    return once + CYCLES * (len(steps) - once)


@pytest.mark.parametrize("name", plans.CYCLES)
def test_a_lane_runs_whole_cycles_and_leaves_nothing_behind(
    name: str, load: Path, server: servers.Running, tmp_path: Path
) -> None:
    """ACK, HEARTBEAT and others name the item by the id that ADD answered: with another one it would stay."""
    steps = plans.CYCLES[name]()
    with Client(server.port, f"looks-{name}") as client:
        client.ask(b"QUEUE TRUNCATE")
        run_steps(load, plan_of(tmp_path, plans.ws_plan(steps)), server, requests_of(steps), depth=1)
        items = client.ask(b"SELECT status FROM system.queue")
    assert items == ([(b"Active",)] if name == "HEARTBEAT of an active item" else [])


@pytest.mark.parametrize(
    "name", ["life cycle 2 KB, parameters, Arrow", "HEARTBEAT of an active item", "QueryQueue mix"]
)
def test_each_lane_has_an_item_of_its_own(name: str, load: Path, server: servers.Running, tmp_path: Path) -> None:
    steps, lanes = plans.CYCLES[name](), 16
    run_steps(load, plan_of(tmp_path, plans.ws_plan(steps)), server, lanes * requests_of(steps), depth=lanes)


def test_an_echo_gets_the_same_and_is_not_held_to_the_replies(load: Path, tmp_path: Path) -> None:
    with servers.sink(load) as echo:
        for cycle in plans.CYCLES.values():
            steps = cycle()
            run_steps(load, plan_of(tmp_path, plans.ws_plan(steps, echo=True)), echo, requests_of(steps), depth=1)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_redis_does_the_same(load: Path, tmp_path: Path) -> None:
    with servers.redis() as redis:
        for cycle in plans.CYCLES.values():
            steps = cycle()
            run_steps(load, plan_of(tmp_path, plans.resp_plan(steps)), redis, requests_of(steps), depth=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sql": b"QUEUE NONSENSE"},
        {"min_reply_bytes": 5_000},
        {"sql": b"CACHE GET 'nothing'", "gives_id": True},
    ],
    ids=["an error", "a short reply", "no id"],
)
def test_what_is_no_answer_counts_as_an_error(
    wrong: dict[str, object], load: Path, server: servers.Running, tmp_path: Path
) -> None:
    step = replace(plans.heartbeat_of_absent()[0], **wrong)  # type: ignore[arg-type]
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_steps(load, plan_of(tmp_path, plans.ws_plan([step])), server, 1, depth=1)
    assert failed.value.returncode == 3
