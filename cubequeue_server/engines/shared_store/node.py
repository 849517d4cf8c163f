"""One primary: its three connections, and what must be true of it before it is used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from cubequeue_server.engines.shared_store.connection import Connection, Reply, Taker, command, connect
from cubequeue_server.engines.shared_store.errors import CannotUseError, StoreRefusedError, StoreUnreachableError
from cubequeue_server.engines.shared_store.hot import HotConnection
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.scripts import ALL, SETUP
from cubequeue_server.engines.shared_store.shards import Shards
from cubequeue_server.engines.shared_store.topology import greet
from cubequeue_server.settings.store_address import Address, Kind

SCHEMA: Final = 1
_OLDEST_VALKEY: Final = (7, 2)
_OLDEST_REDIS: Final = (7, 0)
_RETRY_S: Final = 0.25
_log = logging.getLogger(__name__)


class Host(Protocol):
    """Who uses a node."""

    def batch(self, complete: Callable[[], object]) -> None:
        """Run a function that completes many requests."""

    def on_lost(self, node: Node, unanswered: list[Taker]) -> None:
        """The node cannot be used any longer; these have no reply that is believed."""

    def on_doubt(self, node: Node) -> None:
        """A reply is late: nothing that has come since is believed before the primary is confirmed."""

    def on_bulk(self, node: Node, connection: Connection) -> None:
        """There is a connection for large values."""

    def on_bulk_lost(self, node: Node, unanswered: list[Taker]) -> None:
        """It is lost; these have no reply."""

    def on_message(self, shard: int, payload: bytes) -> None:
        """An outcome that somebody waits for was published."""

    def on_subscribed(self, node: Node) -> None:
        """From now on messages arrive; earlier ones may have been missed."""


class Node:
    """A primary and the shards that are asked there: `hot` for scripts, one for large values, one that subscribes."""

    def __init__(self, host: Host, address: Address, options: StoreOptions, shards: Shards) -> None:
        self.address = address
        self.shards: set[int] = set()
        self._host = host
        self._options = options
        self._all_shards = shards
        self.hot = HotConnection(self._on_hot_lost, host.batch, options.late_s, lambda: host.on_doubt(self))
        self._bulk: Connection | None = None
        self._subscriber: Connection | None = None
        self._side_tasks: list[asyncio.Task[None]] = []
        self.is_up = False
        self.is_subscribed = False
        self.version = ""
        self.memory_bytes = self.max_memory_bytes = 0  # as of the last look

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def open(self, shards: Iterable[int]) -> None:
        """Connect and look whether it may be used. Raises StoreUnreachableError, CannotUseError."""
        self.shards = set(shards)
        await connect(self.address, self.hot, self._options.tls, self.address[0])
        try:
            await greet(self.hot, self._options)
            await self._inspect()
            await self._load_scripts()
            await self._set_up()
        except StoreRefusedError as error:
            self.hot.cut("refused")
            raise StoreUnreachableError(str(error)) from None
        except BaseException:
            self.hot.cut("not usable")
            raise
        if self.hot.is_lost:
            raise StoreUnreachableError(self.hot.reason)
        if self._options.replicas:
            self.hot.demand_replicas(self._options.replicas, self._all_shards.key(min(self.shards), "y"))
        self.is_up = True
        loop = asyncio.get_running_loop()
        self._side_tasks = [loop.create_task(self._keep_bulk()), loop.create_task(self._keep_subscribed())]

    async def _inspect(self) -> None:
        role = await self.hot.ask("ROLE")
        if role[0] != b"master":
            raise StoreUnreachableError("it is a replica")
        info = read_info(await self.hot.ask("INFO"))
        if info.get("loading") == "1":
            raise StoreUnreachableError("it is loading its data")
        self.version = check_info(info, self._options)

    def look_at_memory(self) -> None:
        """Ask how much memory is used; nobody waits for it."""
        self.hot.send(command("INFO", "memory"), self)

    def take(self, reply: Reply) -> None:
        """The answer to that."""
        if isinstance(reply, bytes):
            info = read_info(reply)
            self.memory_bytes = int(info.get("used_memory", 0))
            self.max_memory_bytes = int(info.get("maxmemory", 0))

    def take_shards(self, shards: set[int]) -> None:
        """From now on these are asked here; messages of new ones arrive after another subscription."""
        if not self.shards >= shards and self._subscriber is not None:
            self._subscriber.cut("more shards are asked there")
        self.shards = shards

    async def _load_scripts(self) -> None:
        known = await self.hot.ask("SCRIPT", "EXISTS", *(script.sha for script in ALL))
        missing = [script for script, is_known in zip(ALL, known, strict=True) if not is_known]
        await asyncio.gather(*(self.hot.ask("SCRIPT", "LOAD", script.source) for script in missing))

    async def _set_up(self) -> None:
        """Schema and number of shards, of each shard that is asked here."""
        for _, schema, count in await asyncio.gather(*(self.hot.ask(*self._setup_of(shard)) for shard in self.shards)):
            if int(schema) > SCHEMA:
                raise CannotUseError(f"it has schema {int(schema)}, which a newer cubequeue wrote")
            if int(count) != self._all_shards.count:
                raise CannotUseError(f"it was set up with {int(count)} shards, not {self._all_shards.count}")

    def _setup_of(self, shard: int) -> list[bytes | str | int]:
        keys = [self._all_shards.key(shard, name) for name in SETUP.keys]
        return ["EVALSHA", SETUP.sha, len(keys), *keys, "0", SCHEMA, self._all_shards.count]

    # The connections beside the hot one.

    async def _keep_bulk(self) -> None:
        while True:
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def on_lost(unanswered: list[Taker], lost: asyncio.Future[None] = lost) -> None:
                self._host.on_bulk_lost(self, unanswered)
                _resolve(lost)

            connection = Connection(on_lost, self._host.batch)
            with contextlib.suppress(StoreUnreachableError, StoreRefusedError):
                await connect(self.address, connection, self._options.tls, self.address[0])
                self._bulk = connection
                await greet(connection, self._options)
                self._host.on_bulk(self, connection)
                await lost
            await asyncio.sleep(_RETRY_S)

    async def _keep_subscribed(self) -> None:
        while True:
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def on_lost(_unanswered: list[Taker], lost: asyncio.Future[None] = lost) -> None:
                _resolve(lost)

            connection = Connection(on_lost, self._host.batch, self._on_push)
            with contextlib.suppress(StoreUnreachableError, StoreRefusedError):
                await connect(self.address, connection, self._options.tls, self.address[0])
                self._subscriber = connection
                await greet(connection, self._options)
                channels = [channel_of(self._all_shards, shard) for shard in sorted(self.shards)]
                await asyncio.gather(*(connection.ask("SSUBSCRIBE", channel) for channel in channels))
                self.is_subscribed = True
                self._host.on_subscribed(self)
                await lost
            self.is_subscribed = False
            await asyncio.sleep(_RETRY_S)

    def _on_push(self, reply: list[Reply]) -> bool:
        if reply[0] == b"smessage":
            tag = reply[1].partition(b"}")[0]
            self._host.on_message(int(tag.rpartition(b":")[2]), reply[2])
            return True
        if reply[0] == b"sunsubscribe":  # the slot has moved
            assert self._subscriber is not None
            self._subscriber.cut("a slot has moved")
            return True
        return False

    def ping_subscriber(self) -> asyncio.Future[Reply] | None:
        """A future that is done when all messages published by now have arrived; None while nothing is subscribed."""
        connection = self._subscriber
        return None if connection is None or connection.is_lost else connection.ask("PING")

    # Its end.

    def cut(self, reason: str) -> None:
        """Use it no longer: what it has not answered by now is unknown."""
        self.hot.cut(reason)

    def _on_hot_lost(self, unanswered: list[Taker]) -> None:
        was_up, self.is_up = self.is_up, False
        for task in self._side_tasks:
            task.cancel()
        for connection in (self._bulk, self._subscriber):
            if connection is not None:
                connection.cut(self.hot.reason)
        if was_up:
            self._host.on_lost(self, unanswered)


def _resolve(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def channel_of(shards: Shards, shard: int) -> bytes:
    """Where outcomes of a shard are published."""
    return shards.key(shard, ":done")


def read_info(text: bytes) -> dict[str, str]:
    """INFO as it is printed: `name:value` by name."""
    return dict(line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line)


def check_info(info: dict[str, str], options: StoreOptions) -> str:
    """Its name and version. Raises CannotUseError for one that is too old, evicts queue rows or is of another kind."""
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else (
        "Redis", info.get("redis_version", "0")
    )  # fmt: skip
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    if numbers < (_OLDEST_VALKEY if name == "Valkey" else _OLDEST_REDIS):
        raise CannotUseError(f"it speaks {version}, Redis 7.0 or Valkey 7.2 is needed")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys-"):
        raise CannotUseError(
            f"it evicts with {policy}, which loses queue rows: set maxmemory-policy to noeviction or volatile-ttl"
        )
    is_cluster = info.get("cluster_enabled") == "1"
    if is_cluster and options.address.kind is not Kind.CLUSTER:
        raise CannotUseError("it is a node of a cluster: use valkey+cluster://")
    if options.replicas and "min_slaves_good_slaves" not in info:
        raise CannotUseError(
            "it writes without replicas, which CUBEQUEUE_STORE_DURABILITY=replicated forbids:"
            f" set min-replicas-to-write to {options.replicas}"
        )
    return f"{name} {version}"
