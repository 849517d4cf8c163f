"""Several engine nodes as one store: a cluster, and a primary with replicas under Sentinels."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import redis

from tests.shared_store.nodes import TIMEOUT_S, EngineProcess, Product, free_port, start

_SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
DOWN_AFTER_MS = 1_000
MASTER_NAME = "cube"


def wait_until(is_so: Callable[[], object], timeout_s: float = 2 * TIMEOUT_S) -> None:
    """Wait for a state of engines that tells nobody when it is reached."""
    ends_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if is_so():
                return
        assert time.monotonic() < ends_s, "it does not come to that"
        time.sleep(0.02)


@dataclass
class ClusterOfNodes:
    """Masters with equal parts of the slots, each with so many replicas."""

    masters: list[EngineProcess]
    replicas: list[EngineProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)

    def stop(self) -> None:
        for node in (*self.masters, *self.replicas):
            node.stop()


def start_cluster(product: Product, masters: int = 3, replicas: int = 0) -> ClusterOfNodes:
    """Start a cluster and wait until all of it is one."""
    flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
    nodes = [start(product, *flags) for _ in range(masters * (1 + replicas))]
    cluster = ClusterOfNodes(nodes[:masters], nodes[masters:])
    for number, node in enumerate(cluster.masters):
        with node.client as client:
            first, last = number * _SLOTS // masters, (number + 1) * _SLOTS // masters - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        with node.client as client:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    wait_until(lambda: all(_knows(node, len(nodes)) for node in nodes))
    for number, node in enumerate(cluster.replicas):
        with cluster.masters[number % masters].client as client:
            master_id = client.execute_command("CLUSTER", "MYID")
        with node.client as client:
            client.execute_command("CLUSTER", "REPLICATE", master_id)
    wait_until(lambda: all(_is_well(node) for node in nodes))
    return cluster


def _knows(node: EngineProcess, count: int) -> bool:
    with node.client as client:
        info = client.execute_command("CLUSTER", "INFO")
    return f"cluster_known_nodes:{count}\r\n" in _text(info) if not isinstance(info, dict) else (
        int(info["cluster_known_nodes"]) == count
    )  # fmt: skip


def _is_well(node: EngineProcess) -> bool:
    with node.client as client:
        info = client.execute_command("CLUSTER", "INFO")
        replication = client.info("replication")
    is_linked = replication["role"] == "master" or replication["master_link_status"] == "up"
    if isinstance(info, dict):
        return bool(info["cluster_state"] == "ok" and is_linked)
    return "cluster_state:ok" in _text(info) and is_linked


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass
class WatchedPrimary:
    """A primary and its replicas, watched by Sentinels that replace it."""

    data: list[EngineProcess]
    sentinels: list[EngineProcess]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"valkey+sentinel://{hosts}/{MASTER_NAME}"

    @property
    def primary(self) -> EngineProcess:
        """The one that the Sentinels name now."""
        with self.sentinels[0].client as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return next(node for node in self.data if node.port == int(port))

    def replaced(self, old: EngineProcess) -> EngineProcess:
        """Wait for another primary than that."""
        wait_until(lambda: self.primary is not old)
        return self.primary

    def wait_until_well(self) -> None:
        """All data nodes are there and follow the primary, and the Sentinels know all of them."""

        def is_well() -> bool:
            primary = self.primary
            with primary.client as client:
                info = client.info("replication")
            states = [info.get(f"slave{number}", {}).get("state") for number in range(len(self.data) - 1)]
            with self.sentinels[0].client as client:
                state = client.execute_command("SENTINEL", "MASTER", MASTER_NAME)
            pairs = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
            values = {_text(key): _text(value) if isinstance(value, bytes) else value for key, value in pairs.items()}
            flags = values["flags"]
            return bool(
                info["role"] == "master"
                and states == ["online"] * (len(self.data) - 1)
                and (flags == "master" or flags == {"master"})
                and int(values["num-other-sentinels"]) == len(self.sentinels) - 1
            )

        wait_until(is_well)

    def kill(self, node: EngineProcess) -> None:
        """As a machine that loses its power."""
        node.process.kill()
        node.process.wait(TIMEOUT_S)

    def freeze(self, node: EngineProcess) -> None:
        node.process.send_signal(signal.SIGSTOP)

    def resume(self, node: EngineProcess) -> None:
        node.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for node in (*self.sentinels, *self.data):
            node.stop()


def start_watched(product: Product, replicas: int = 2, *flags: str) -> WatchedPrimary:
    """Start a primary, its replicas and three Sentinels."""
    data = [start(product, *flags)]
    data += [start(product, "--replicaof", "127.0.0.1", str(data[0].port), *flags) for _ in range(replicas)]
    sentinels = []
    for _ in range(3):
        port = free_port()
        sentinels.append(start_sentinel(product, port, data[0].port))
    watched = WatchedPrimary(data, sentinels)
    watched.wait_until_well()
    return watched


def start_sentinel(product: Product, port: int, primary_port: int) -> EngineProcess:
    """A Sentinel, which keeps its configuration in a file of its own."""
    lines = (
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {primary_port} 2",
        f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {MASTER_NAME} 4000",
        f"sentinel parallel-syncs {MASTER_NAME} 2",
    )
    return start(product, port=port, sentinel_lines=lines)


def start_again(product: Product, node: EngineProcess, primary: EngineProcess, *flags: str) -> None:
    """Start a node anew that was killed, on its port, as a replica of the primary."""
    again = start(product, "--replicaof", "127.0.0.1", str(primary.port), *flags, port=node.port)
    node.process, node.directory = again.process, again.directory


@contextlib.contextmanager
def deployed(make: Callable[[], ClusterOfNodes | WatchedPrimary]) -> Iterator[ClusterOfNodes | WatchedPrimary]:
    """Several nodes for the length of a test."""
    deployment = make()
    try:
        yield deployment
    finally:
        deployment.stop()


_shared: dict[Product, ClusterOfNodes] = {}


def shared_cluster(product: Product) -> ClusterOfNodes:
    """The cluster of three masters of this test process."""
    if product not in _shared:
        _shared[product] = start_cluster(product)
    return _shared[product]
