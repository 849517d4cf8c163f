"""A primary that dies, freezes or is cut off under load: what each mode promises (docs/shared-store.md).

STORE_SEED draws the same statements again; how they meet is the machine's. STORE_KILLS and STORE_FREEZES are the
counts of the long form.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.needed import require
from tests.shared_store import nodes
from tests.shared_store.deployments import WatchedPrimary, start_again, start_watched
from tests.shared_store.load import Load
from tests.shared_store.servers import running_servers

SEED = os.environ.get("STORE_SEED") or str(Random().randrange(1 << 32))
REPLICATED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
LATE_S = 0.3
# What a history may be short of in `relaxed`: effects that an answer told of and a failover lost.
OF_LOSS = {"impossible", "heartbeat", "another answer"}


@pytest.fixture(params=["relaxed", "replicated"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def watched(mode: str) -> Iterator[WatchedPrimary]:
    product = nodes.VALKEY
    require(product.program, f"{product}-server")
    deployment = start_watched(product, 2, *(REPLICATED if mode == "replicated" else ()))
    yield deployment
    deployment.stop()


async def in_thread(do: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, do)


class Kill:
    """The primary dies, and another takes over; then the dead one comes back as a replica, empty."""

    def __init__(self, watched: WatchedPrimary, mode: str) -> None:
        self._watched = watched
        self._flags = REPLICATED if mode == "replicated" else ()
        self._old = watched.primary

    def hurt(self) -> None:
        self._old = self._watched.primary
        self._watched.kill(self._old)
        self._watched.replaced(self._old)

    def heal(self) -> None:
        start_again(self._old.product, self._old, self._watched.primary, *self._flags)
        self._watched.wait_until_well()


class Freeze:
    """The primary stands still until another has taken over, and then goes on as if nothing had been."""

    def __init__(self, watched: WatchedPrimary) -> None:
        self._watched = watched

    def hurt(self) -> None:
        old = self._watched.primary
        self._watched.freeze(old)
        self._watched.replaced(old)
        self._watched.resume(old)

    def heal(self) -> None:
        self._watched.wait_until_well()


async def run(watched: WatchedPrimary, mode: str, times: int, trouble: Kill | Freeze) -> Counter[str]:
    """The violations by rule of a history in which the primary was lost so often."""
    print(f"STORE_SEED={SEED}")
    replicas = 1 if mode == "replicated" else 0
    async with running_servers(watched.url, 2, replicas=replicas, late_s=LATE_S) as servers:
        load = Load([each.address for each in servers], f"{SEED} {mode}")

        async def often() -> None:
            for _ in range(times):
                await load.for_a_while()
                await in_thread(trouble.hurt)
                await load.for_a_while()
                load.may_talk.clear()
                await in_thread(trouble.heal)
                load.may_talk.set()
            await load.for_a_while()

        found = await load.run(often)
        links = [each.store.links.figures for each in servers]
        print(f"{mode}: {len(load.history.operations)} statements, {links}")
        assert all(each.losses >= times for each in links)
    for each in found[:5]:
        print(f"{each.rule}: {each.text}")
    return Counter(each.rule for each in found)


def judge(mode: str, found: Counter[str]) -> None:
    if mode == "replicated":
        assert not found
    else:
        print(f"lost: {dict(found)}")
        assert not found.keys() - OF_LOSS


@pytest.mark.timeout(300)
async def test_kills_of_the_primary(watched: WatchedPrimary, mode: str) -> None:
    judge(mode, await run(watched, mode, 2, Kill(watched, mode)))


@pytest.mark.timeout(300)
async def test_freezes_of_the_primary(watched: WatchedPrimary, mode: str) -> None:
    found = await run(watched, mode, 1, Freeze(watched))
    assert not found, "late replies are not believed, in relaxed neither"
