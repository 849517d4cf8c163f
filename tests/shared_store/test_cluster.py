"""A cluster under load: a master is killed, and shards move from one master to another. No client sees an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from cubequeue_server.engines.shared_store.shards import Shards
from tests.needed import require
from tests.shared_store import nodes
from tests.shared_store.audit import audit
from tests.shared_store.deployments import ClusterOfNodes, start_cluster, wait_until
from tests.shared_store.load import Load
from tests.shared_store.servers import running_servers
from tests.shared_store.test_failover import LATE_S, SEED, in_thread

MOVED_SHARDS = 10


@pytest.fixture
def cluster() -> Iterator[ClusterOfNodes]:
    require(nodes.VALKEY.program, "valkey-server")
    deployment = start_cluster(nodes.VALKEY, masters=3, replicas=1)
    yield deployment
    deployment.stop()


def slot_of(client: redis.Redis, shard: int) -> int:
    tag = Shards("cq", 64).tags[shard]
    return int(client.execute_command("CLUSTER", "KEYSLOT", tag))  # type: ignore[no-untyped-call]


def owned_slots(client: redis.Redis) -> tuple[str, set[int]]:
    """The id of a node, and its slots."""
    lines = client.execute_command("CLUSTER", "NODES").decode().splitlines()  # type: ignore[no-untyped-call]
    [words] = [line.split() for line in lines if "myself" in line]
    slots: set[int] = set()
    for part in words[8:]:
        if not part.startswith("["):
            first, _, last = part.partition("-")
            slots |= set(range(int(first), int(last or first) + 1))
    return words[0], slots


def move(cluster: ClusterOfNodes, slot: int) -> None:
    """Move one slot to another master, key by key, as redis-cli does."""
    owned = []
    for node in cluster.masters:
        with node.client as client:
            owned.append((node, *owned_slots(client)))
    [(source, source_id)] = [(node, id_) for node, id_, slots in owned if slot in slots]
    target, target_id = next((node, id_) for node, id_, slots in owned if slot not in slots)
    with source.client as old, target.client as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        print("moved", slot, source.port, target.port)


@pytest.mark.timeout(200)
async def test_a_master_dies_under_load(cluster: ClusterOfNodes) -> None:
    print(f"STORE_SEED={SEED}")
    async with running_servers(cluster.url, 2, late_s=LATE_S) as servers:
        load = Load([each.address for each in servers], f"{SEED} cluster")

        def kill() -> None:
            dead = cluster.masters[0]
            dead.process.kill()
            dead.process.wait()

        async def disturb() -> None:
            await load.for_a_while()
            await in_thread(kill)
            await asyncio.sleep(1)
            await load.for_a_while(100)

            def is_well() -> bool:
                with cluster.masters[1].client as client:
                    return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")

            await in_thread(lambda: wait_until(is_well))
            await load.for_a_while()

        found = await load.run(disturb)
        print([each.store.links.figures for each in servers], len(load.history.operations))
    assert not {each.rule for each in found} & {"error", "unanswered"}, found[:3]
    assert not found, [f"{each.rule}: {each.text}" for each in found[:3]]


@pytest.mark.timeout(200)
async def test_shards_move_under_load(cluster: ClusterOfNodes) -> None:
    print(f"STORE_SEED={SEED}")
    async with running_servers(cluster.url, 2, late_s=LATE_S) as servers:
        load = Load([each.address for each in servers], f"{SEED} moves")
        queue_shard, _ = servers[0].store.core.shards.place(b"q1")
        shards = [queue_shard, *(shard for shard in range(MOVED_SHARDS) if shard != queue_shard)][:MOVED_SHARDS]

        def move_some() -> None:
            with cluster.masters[0].client as client:
                slots = [slot_of(client, shard) for shard in shards]
            for slot in slots:
                move(cluster, slot)

        async def disturb() -> None:
            await load.for_a_while()
            await in_thread(move_some)
            await load.for_a_while()

        found = await load.run(disturb)
        print([each.store.links.figures for each in servers], len(load.history.operations))
    for each in found[:3]:
        print(f"{each.rule}: {each.text}")
    for master in cluster.masters:
        with master.client as client:
            audit(client, Shards("cq", 64))
    assert not found
