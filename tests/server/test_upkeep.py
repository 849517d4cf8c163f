"""What keeps a server well: room for newcomers, clocks that go on whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.net.front import Front
from cubequeue_server.options import ServerOptions
from storage.vocabulary import QueueAdd
from tests.server.client import connected
from tests.server.harness import WatchedStore, serving, until


async def test_silent_sockets_make_room_for_newer_ones_the_oldest_first() -> None:
    async with serving(max_handshakes=2) as server:
        silent = [await asyncio.open_connection(*server.address) for _ in range(5)]
        ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
        await until(lambda: server.counters.handshakes_dropped == 3)
        await until(lambda: all(end.done() for end in ends[:3]))
        async with connected(server.address) as client:
            assert await client.rows("CACHE GET 'k'") == [(None,)]
        assert not ends[4].done()
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        for _, writer in silent:
            writer.close()


async def test_a_socket_dropped_before_it_was_set_up_is_closed_once_it_is() -> None:
    class Transport(asyncio.Transport):
        is_aborted = False

        def abort(self) -> None:
            self.is_aborted = True

    done: list[Front] = []
    front = Front(ServerOptions(), None, Credentials(), done.append)  # type: ignore[arg-type]  # nobody is admitted here
    front.abort()
    assert done == [front]
    transport = Transport()
    front.connection_made(transport)
    assert transport.is_aborted


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_clock_goes_on_after_an_error_in_the_store() -> None:
    class BrokenStore(WatchedStore):
        def tick(self, now_ms: int, max_rows: int) -> bool:
            super().tick(now_ms, max_rows)
            if self.ticks == 2:
                raise ZeroDivisionError
            return False

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    store = BrokenStore()
    async with serving(store, tick_interval_s=0.001) as server:
        await until(lambda: store.ticks > 4)
        async with connected(server.address) as client:
            await client.ask("QUEUE ADD 'p:k' '{}'")
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert type(store.executed[0]) is QueueAdd
