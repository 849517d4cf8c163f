"""The drill of docs/migration.md: queue and cache move off a server under load, and back, and no request fails.

The old server has queue, cache and tables, as a CubeStore's router has. The new one passes to it what is about tables.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.clients.processes import Cubequeue, NodeProcess, package_folder
from tests.clients.test_tables_are_guarded import Worker
from tests.upstream.harness import InThread
from tests.upstream.stand_in import StandIn
from tests.upstream.tables import Tables

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]

NAMES = ["rollup_a", "rollup_b"]
LOAD_S = 1.5
QUERIES = 8  # of the source, in worker-of-rollups.js
LIMIT_S = 180


class Deployment:
    """Processes of Cube, each at one of the two servers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.executions = folder / "executions"
        self.executions.touch()
        self._packages = package_folder("clients", "1.7.43")
        self._stack = stack

    def process(self, server: Cubequeue, side: str) -> Worker:
        environment = {"SIDE": side, "EXECUTIONS": str(self.executions)}
        node = NodeProcess(server, self._packages, ["worker-of-rollups.js"], environment, LIMIT_S)
        return Worker(self._stack.enter_context(node))

    def executed(self) -> Counter[str]:
        """How often each side has executed each query of the source."""
        return Counter(line for line in self.executions.read_text().splitlines() if "FROM" not in line)


@contextmanager
def deployment(folder: Path) -> Iterator[tuple[Cubequeue, Cubequeue, Tables, Deployment]]:
    stand_in, tables = StandIn("1.7.43"), Tables()
    stand_in.answer = tables
    with ExitStack() as stack:
        stack.enter_context(InThread(stand_in))
        behind = {"CUBEQUEUE_UPSTREAM": f"ws://127.0.0.1:{stand_in.port}", "CUBEQUEUE_DROP_GUARD": "0"}
        old = stack.enter_context(Cubequeue(folder / "old", behind))
        new = stack.enter_context(Cubequeue(folder / "new", {"CUBEQUEUE_UPSTREAM": f"ws://127.0.0.1:{old.port}"}))
        yield old, new, tables, Deployment(folder, stack)
        assert old.complaints == new.complaints == []


def copy(source: Cubequeue, target: Cubequeue) -> None:
    urls = ["--from", f"ws://127.0.0.1:{source.port}", "--url", f"ws://127.0.0.1:{target.port}"]
    command = [str(Path(sys.executable).parent / "cubequeue"), "copy-cache", *urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def move(source: Cubequeue, target: Cubequeue, side: str, apis: list[Worker], cube: Deployment) -> list[Worker]:
    """Steps 0 to 3: copy, roll the API instances one after the other, copy again."""
    copy(source, target)
    rolled = []
    for old in apis:
        new = cube.process(target, side)
        new.do("load", *NAMES)
        time.sleep(LOAD_S)
        counted = old.do("stop")
        assert counted["failures"] == []
        assert counted["answered"] > 0
        rolled.append(new)
    copy(source, target)
    return rolled


def test_queue_and_cache_move_and_move_back_under_load(tmp_path: Path) -> None:
    with deployment(tmp_path) as (old, new, tables, cube):
        worker = cube.process(old, "old")
        worker.do("build", *NAMES)
        worker.do("end")
        apis = [cube.process(old, "old") for _ in range(2)]
        apis[0].do("load", *NAMES)
        # Two that miss the cache at once may execute one after the other: the result leaves the queue for the cache.
        while len(cube.executed()) < QUERIES:
            time.sleep(0.1)
        apis[1].do("load", *NAMES)
        time.sleep(LOAD_S)
        live = set(tables.live)

        apis = move(old, new, "new", apis, cube)
        worker = cube.process(new, "new")  # the refresh worker starts anew
        worker.do("build", *NAMES, "rollup_c")
        worker.do("end")
        worker.do("build", "rollup_d")
        assert tables.dropped == []

        apis = move(new, old, "back", apis, cube)
        worker = cube.process(old, "back")
        worker.do("build", *NAMES)
        for api in apis:
            assert api.do("stop")["failures"] == []
        assert tables.dropped == []
        assert live <= set(tables.live)
        executed = cube.executed()
        assert executed
        assert max(executed.values()) == 1, executed
