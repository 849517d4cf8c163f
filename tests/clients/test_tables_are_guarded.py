"""Real worker code of Cube over an upstream CubeStore: no table in use is dropped when marks are missing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.processes import Cubequeue, NodeProcess, package_folder
from tests.server.client import Client, connected
from tests.upstream.harness import InThread
from tests.upstream.stand_in import StandIn
from tests.upstream.tables import Tables

pytestmark = pytest.mark.node

NAMES = [f"rollup_{number}" for number in range(4)]
MANY = 400


class Worker:
    """The node process, asked a line at a time."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._node.expect("ready")

    def do(self, *words: str) -> dict[str, Any]:
        self._node.say(" ".join(words))
        done: dict[str, Any] = self._node.expect("done")["done"]
        return done


@contextmanager
def deployment(folder: Path, **settings: str) -> Iterator[tuple[Cubequeue, StandIn, Tables, Worker]]:
    """A cubequeue in memory, a CubeStore behind it, and a worker that has built some rollups."""
    stand_in, tables = StandIn("1.7.43"), Tables()
    stand_in.answer = tables
    with ExitStack() as stack:
        stack.enter_context(InThread(stand_in))
        upstream = {"CUBEQUEUE_UPSTREAM": f"ws://127.0.0.1:{stand_in.port}", **settings}
        server = stack.enter_context(Cubequeue(folder / "log", upstream))
        packages = package_folder("clients", "1.7.43")
        node = stack.enter_context(NodeProcess(server, packages, ["worker-of-rollups.js"], {}, 120))
        yield server, stand_in, tables, Worker(node)


def on(server: Cubequeue, ask: Callable[[Client], Any]) -> None:
    async def asked() -> None:
        async with connected(("127.0.0.1", server.port), str(uuid.uuid4())) as client:
            await ask(client)

    asyncio.run(asked())


def test_an_external_rollup_is_built_and_asked(tmp_path: Path) -> None:
    with deployment(tmp_path) as (_, stand_in, tables, worker):
        assert worker.do("build", *NAMES) == {name: [{"id": "7"}] for name in NAMES}
        assert len(tables.live) == len(NAMES)
        texts = stand_in.texts()
        for name in NAMES:
            (made,) = (text for text in texts if text.startswith(f"CREATE TABLE prod.{name}_"))
            assert "LOCATION 'temp://prod." in made
            assert any(text.startswith(f"SELECT id FROM prod.{name}_") for text in texts)
            assert any(f"name=prod.{name}_".encode() in upload.head for upload in stand_in.uploads)
        assert "CREATE SCHEMA IF NOT EXISTS prod" in texts
        assert not any(text.startswith(("QUEUE", "CACHE")) for text in texts)


def lose_the_cache(server: Cubequeue) -> None:
    server.kill()
    server.start()


def empty_it(server: Cubequeue) -> None:
    on(server, lambda client: client.ask("CACHE CLEAR"))


def evict(server: Cubequeue) -> None:
    async def fill(client: Client) -> None:
        for number in range(MANY):
            await client.ask(f"CACHE SET TTL 3600 'STANDALONE#SQL_QUERY_RESULT:{number}' '{'x' * 100}'")
        await client.ask("SYS CACHESTORE EVICTION")

    on(server, fill)


LOSSES = {"lost": lose_the_cache, "emptied": empty_it, "evicted": evict}
SMALL = {"CUBESTORE_CACHE_MAX_KEYS": "50"}


def dropped(folder: Path, loss: str, **settings: str) -> set[str]:
    """The rollups that the next build drops after a loss; with nothing lost it drops none."""
    with deployment(folder, **SMALL, **settings) as (server, _, tables, worker):
        worker.do("build", *NAMES)
        worker.do("end")
        on(server, lambda client: client.ask("SYS CACHESTORE END_DROP_GUARD"))
        worker.do("build", "rollup_before")
        assert tables.dropped == []
        LOSSES[loss](server)
        worker.do("end")
        worker.do("build", "rollup_after")
        return {name.split("_1")[0].split(".")[1][:8] for name in tables.dropped}


@pytest.mark.parametrize("loss", LOSSES)
def test_no_table_is_dropped(loss: str, tmp_path: Path) -> None:
    assert dropped(tmp_path, loss) == set()


@pytest.mark.parametrize("loss", LOSSES)
def test_without_the_guard_tables_are_dropped(loss: str, tmp_path: Path) -> None:
    """The rule is needed: with it taken out, Cube drops what it uses."""
    assert len(dropped(tmp_path, loss, CUBEQUEUE_DROP_GUARD="0", CUBEQUEUE_CACHE_KEEP="none-at-all")) > 0


def test_marks_are_kept_when_the_cache_is_over_its_limit_even_without_the_guard(tmp_path: Path) -> None:
    assert dropped(tmp_path, "evicted", CUBEQUEUE_DROP_GUARD="0") == set()
