"""Several API instances on the same queue: nothing is executed twice, nothing is lost (clients.md §6)."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.processes import Cubequeue, Listener, NodeProcess

pytestmark = pytest.mark.node

PROCESSES = 4
LIMIT_S = 90


def run_workers(server: Listener, packages: Path, folder: Path, work: list[dict[str, Any]]) -> Counter[str]:
    """Let the processes begin together; gives how often each query was executed."""
    executions = folder / "executions"
    executions.touch()
    prefix = f"SQL_QUERY_{uuid.uuid4()}_default"
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                NodeProcess(
                    server,
                    packages,
                    ["worker.js"],
                    {"WORK": json.dumps({"prefix": prefix, **part}), "EXECUTIONS": str(executions)},
                    LIMIT_S,
                )
            )
            for part in work
        ]
        for node in nodes:
            node.expect("ready")
        for node in nodes:
            node.go_on()
        for node, part in zip(nodes, work, strict=True):
            done = node.expect("answers")
            assert done == {"answers": len(part["names"]), "errors": []}
        # Only now: one that ended earlier would leave what it runs for the others.
        for node in nodes:
            node.go_on()
        for node in nodes:
            assert node.exit_code() == 0, node.errors
    return Counter(executions.read_text().split())


def test_each_process_gets_its_own_answers(cubequeue: Cubequeue, packages: Path, tmp_path: Path) -> None:
    names = [[f"p{process}q{number}" for number in range(60)] for process in range(PROCESSES)]
    settings = {"delayMs": 5, "concurrency": 8, "continueWaitTimeout": 5}
    executed = run_workers(cubequeue, packages, tmp_path, [{"names": part, **settings} for part in names])
    assert executed == Counter(name for part in names for name in part)


@pytest.mark.parametrize("generation", ["0.33.64", "0.35.81", "1.3.40", "1.6.49", "1.7.43"], indirect=True)
def test_queries_that_all_processes_ask_for_are_executed_once(
    cubequeue: Cubequeue, packages: Path, tmp_path: Path
) -> None:
    """Without ids (0.31) a result has one reader, and the others run the query again."""
    names = [f"shared{number}" for number in range(8)]
    settings = {"delayMs": 1500, "concurrency": 4, "continueWaitTimeout": 30}
    work = [{"names": names, **settings} for _ in range(PROCESSES)]
    assert run_workers(cubequeue, packages, tmp_path, work) == Counter(names)
