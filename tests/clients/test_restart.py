"""The server goes away while a client waits, and comes back on the same port, having kept nothing in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.processes import Cubequeue, NodeProcess

pytestmark = pytest.mark.node

LIMIT_S = 80


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Cubequeue]:
    with Cubequeue(tmp_path / "log") as started:
        yield started
    assert started.complaints == []


@pytest.fixture(params=["killed", "stopped"])
def go_away(request: pytest.FixtureRequest, server: Cubequeue) -> Callable[[], None]:
    return server.kill if request.param == "killed" else server.terminate


def test_a_waiting_client_comes_back_and_is_served(
    server: Cubequeue, go_away: Callable[[], None], packages: Path, generation: str
) -> None:
    with NodeProcess(server, packages, ["restart.js", "driver"], {}, LIMIT_S) as node:
        before = node.expect("waiting")["waiting"]
        go_away()
        server.start()
        waited = node.expect("answer")
        assert waited["answer"] is None
        if go_away == server.kill:
            assert waited["waitedMs"] > 2_500, "after the reconnect it waited its whole two seconds again"
        assert waited["waitedMs"] < 30_000
        node.go_on()
        added = node.expect("added")
        assert added["added"] is True
        assert added["pending"] == 1
        if generation != "0.31.69":
            assert added["id"] > before, "an id is never given to another query, also by a server that keeps nothing"
        assert node.expect("claimed") == {"claimed": True, "result": {"result": "after"}}
        assert node.exit_code() == 0, node.errors


def test_a_query_at_work_is_run_again_and_answered(
    server: Cubequeue, go_away: Callable[[], None], packages: Path
) -> None:
    with NodeProcess(server, packages, ["restart.js", "queue"], {}, LIMIT_S) as node:
        node.expect("executing")
        go_away()
        server.start()
        assert node.expect("executing") == {"executing": 2}, "the queue is empty, so the caller's next try adds it anew"
        node.go_on()
        assert node.expect("result")["result"] == "result of q"
        assert node.exit_code() == 0, node.errors
