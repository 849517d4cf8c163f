"""Which primary has which shard: of one node, by Sentinel, in a cluster; and whether it still is the primary."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from cubequeue_server.engines.shared_store.connection import Connection, Reply, connect
from cubequeue_server.engines.shared_store.errors import CannotUseError, StoreRefusedError, StoreUnreachableError
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.shards import Shards
from cubequeue_server.settings.store_address import Address

_ASK_TIMEOUT_S: Final = 1.0
_SLOTS: Final = 16_384
_BAD_FLAGS: Final = ("s_down", "o_down", "failover_in_progress", "disconnected")


class Topology(Protocol):
    """Tells where the primaries are."""

    async def primaries(self) -> list[Address]:
        """The primary of each shard. Raises StoreUnreachableError when nobody tells."""

    async def is_primary(self, address: Address, ask: Callable[..., asyncio.Future[Reply]]) -> bool | None:
        """Whether it is the primary now; None when too few could be asked. `ask` asks the one in question."""

    async def down_after_s(self) -> float | None:
        """After how long a silent primary is replaced; None when that cannot be known. Raises as `primaries`."""

    def moved(self, shard: int, address: Address) -> None:
        """A primary said that another one has this shard."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """From now on call it when another primary may have taken over."""

    def close(self) -> None:
        """Ask no more."""


def _ignore(_lost: object) -> None:
    """Nobody waits for anything there."""


def _run(work: Callable[[], object]) -> None:
    work()


class Asked:
    """A connection to one who knows, kept open."""

    def __init__(self, address: Address, options: StoreOptions, *, is_sentinel: bool) -> None:
        self.address = address
        self._options = options
        self._is_sentinel = is_sentinel
        self._connection: Connection | None = None

    async def ask(self, *words: bytes | str | int) -> Reply:
        """Raises StoreUnreachableError, StoreRefusedError."""
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                if self._connection is None or self._connection.is_lost:
                    self._connection = await open_connection(self.address, self._options, is_sentinel=self._is_sentinel)
                return await self._connection.ask(*words)
        except TimeoutError:
            self.close()
            raise StoreUnreachableError(f"no answer within {_ASK_TIMEOUT_S:.0f} s") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.cut("it is no longer asked")
            self._connection = None


async def open_connection(address: Address, options: StoreOptions, *, is_sentinel: bool = False) -> Connection:
    """A connection for commands that are not hot, with credentials."""
    connection = Connection(_ignore, _run)
    await connect(address, connection, options.tls, address[0])
    await greet(connection, options, is_sentinel=is_sentinel)
    return connection


async def greet(connection: Connection, options: StoreOptions, *, is_sentinel: bool = False) -> None:
    """Log in."""
    try:
        password = options.sentinel_password() if is_sentinel else options.password()
        if password and options.user and not is_sentinel:
            await connection.ask("AUTH", options.user, password)
        elif password:
            await connection.ask("AUTH", password)
        if options.address.database and not is_sentinel:
            await connection.ask("SELECT", options.address.database)
    except StoreRefusedError as error:
        connection.cut("refused")
        raise StoreUnreachableError(f"it refuses the credentials: {error}") from None
    except CannotUseError as error:  # a file that cannot be read now
        connection.cut("no password")
        raise StoreUnreachableError(str(error)) from None


class Single:
    """One node, or an address behind which somebody else keeps the primary."""

    def __init__(self, options: StoreOptions, shards: Shards) -> None:
        self._map = [options.address.hosts[0]] * shards.count

    async def primaries(self) -> list[Address]:
        return self._map

    async def is_primary(self, address: Address, ask: Callable[..., asyncio.Future[Reply]]) -> bool | None:
        """Nobody else knows: it says so itself, on the connection whose replies are in doubt."""
        role = await ask("ROLE")
        return bool(role[0] == b"master")

    async def down_after_s(self) -> float | None:
        return None

    def moved(self, shard: int, address: Address) -> None:
        """A single node moves nothing."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Nobody tells."""

    def close(self) -> None:
        """Nothing is open."""


class View(NamedTuple):
    """What one who was asked thinks: who the primary is, as of which epoch, and whether that is well."""

    address: Address
    epoch: int
    is_well: bool


class Sentinel:
    """A primary that sentinels watch and replace. They are asked all, and the newest word of a majority counts."""

    def __init__(self, options: StoreOptions, shards: Shards) -> None:
        self._options = options
        self._name = options.address.master_name
        self._count = shards.count
        self._sentinels = {host: Asked(host, options, is_sentinel=True) for host in options.address.hosts}
        self._watchers: list[asyncio.Task[None]] = []
        self._needed = len(self._sentinels) // 2 + 1

    async def primaries(self) -> list[Address]:
        views = await self._views()
        if not views:
            raise StoreUnreachableError(f"no sentinel knows a primary {self._name}")
        return [max(views, key=lambda view: view.epoch).address] * self._count

    async def is_primary(self, address: Address, ask: Callable[..., asyncio.Future[Reply]]) -> bool | None:
        views = await self._views()
        newest = max((view.epoch for view in views), default=0)
        for view in views:
            if view.epoch == newest and view.address != address:
                return False
        if len(views) < self._needed or not all(view.is_well for view in views):
            return None
        return True

    async def _views(self) -> list[View]:
        answers = await asyncio.gather(*(self._view(each) for each in self._sentinels.values()), return_exceptions=True)
        views = [answer for answer in answers if isinstance(answer, View)]
        if not views:
            known = [answer for answer in answers if isinstance(answer, CannotUseError | StoreUnreachableError)]
            raise known[0] if known else StoreUnreachableError("no sentinel answers")
        return views

    async def _view(self, sentinel: Asked) -> View:
        address = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        if address is None:
            raise StoreUnreachableError(f"the sentinels know no primary {self._name}")
        state = _pairs(await sentinel.ask("SENTINEL", "MASTER", self._name))
        self._needed = (int(state[b"num-other-sentinels"]) + 1) // 2 + 1
        flags = state[b"flags"].decode()
        host, port = address
        return View(
            (host.decode(), int(port)), int(state[b"config-epoch"]), not any(bad in flags for bad in _BAD_FLAGS)
        )

    async def down_after_s(self) -> float | None:
        errors: list[Exception] = []
        for sentinel in self._sentinels.values():
            try:
                state = _pairs(await sentinel.ask("SENTINEL", "MASTER", self._name))
            except (StoreUnreachableError, StoreRefusedError) as error:
                errors.append(error)
            else:
                return int(state[b"down-after-milliseconds"]) / 1000
        raise StoreUnreachableError(str(errors[0]))

    def moved(self, shard: int, address: Address) -> None:
        """A primary behind sentinels moves nothing."""

    def watch(self, on_change: Callable[[], None]) -> None:
        self._watchers = [
            asyncio.get_running_loop().create_task(self._watch(host, on_change)) for host in self._sentinels
        ]

    async def _watch(self, address: Address, on_change: Callable[[], None]) -> None:
        """Listen to one sentinel for ever."""
        while True:
            try:
                lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

                def on_push(reply: list[Reply]) -> bool:
                    if reply[0] == b"message":
                        on_change()
                    return bool(reply[0] == b"message")

                def on_lost(_pending: object, lost: asyncio.Future[None] = lost) -> None:
                    if not lost.done():
                        lost.set_result(None)

                connection = Connection(on_lost, _run, on_push)
                await connect(address, connection, self._options.tls, address[0])
                try:
                    await greet(connection, self._options, is_sentinel=True)
                    await connection.ask("SUBSCRIBE", "+switch-master")
                    await lost
                finally:
                    connection.cut("it is no longer listened to")
            except (StoreUnreachableError, StoreRefusedError):
                pass
            await asyncio.sleep(_ASK_TIMEOUT_S)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        for sentinel in self._sentinels.values():
            sentinel.close()


class Cluster:
    """A cluster of primaries. The map is the newest of what its nodes think."""

    def __init__(self, options: StoreOptions, shards: Shards) -> None:
        self._options = options
        self._nodes = {host: Asked(host, options, is_sentinel=False) for host in options.address.hosts}
        self._slots = [crc_hqx(tag[1:-1], 0) % _SLOTS for tag in shards.tags]
        self._map: list[Address] = []

    async def primaries(self) -> list[Address]:
        owners = await self._owners()
        missing = sum(slot not in owners for slot in self._slots)
        if missing:
            raise StoreUnreachableError(f"{missing} of {len(self._slots)} shards have no primary in the cluster")
        self._map = [owners[slot][1] for slot in self._slots]
        return list(self._map)

    async def is_primary(self, address: Address, ask: Callable[..., asyncio.Future[Reply]]) -> bool | None:
        views = await self._views(but=address)
        others = {node for view in views for _, node, _ in view.values()} - {address}
        if len(views) < min(len(others), len(others) // 2 + 1) or not views:
            return None
        owners = _newest(views)
        mine = [slot for slot, owner in zip(self._slots, self._map, strict=True) if owner == address]
        taken = [slot for slot in mine if slot in owners and owners[slot][1] != address]
        if mine and len(taken) == len(mine):  # some of them alone have been moved, which loses nothing
            return False
        return True if all(slot in owners and owners[slot][2] for slot in mine) else None

    async def _owners(self) -> dict[int, tuple[int, Address, bool]]:
        return _newest(await self._views())

    async def _views(self, but: Address | None = None) -> list[dict[int, tuple[int, Address, bool]]]:
        """Of each node that can be asked: epoch, primary and health of each slot that a shard is in."""
        asked = [node for address, node in self._nodes.items() if address != but]
        answers = await asyncio.gather(*(node.ask("CLUSTER", "NODES") for node in asked), return_exceptions=True)
        texts = [answer for answer in answers if isinstance(answer, bytes)]
        if not texts:
            refusals = [answer for answer in answers if isinstance(answer, StoreRefusedError)]
            if refusals and "cluster support disabled" in str(refusals[0]):
                raise CannotUseError("it is no cluster")
            reason = next((str(answer) for answer in answers if isinstance(answer, Exception)), "no node answers")
            raise StoreUnreachableError(reason)
        views = []
        for text in texts:
            view, nodes = _read_nodes(text.decode(), set(self._slots))
            views.append(view)
            for address in nodes:
                if address not in self._nodes:
                    self._nodes[address] = Asked(address, self._options, is_sentinel=False)
        return views

    async def down_after_s(self) -> float | None:
        for node in self._nodes.values():
            try:
                found = await node.ask("CONFIG", "GET", "cluster-node-timeout")
            except (StoreUnreachableError, StoreRefusedError):  # managed engines do not let us ask
                continue
            return int(found[1]) / 1000 if found else None
        return None

    def moved(self, shard: int, address: Address) -> None:
        if address not in self._nodes:
            self._nodes[address] = Asked(address, self._options, is_sentinel=False)

    def watch(self, on_change: Callable[[], None]) -> None:
        """MOVED tells, and the map is looked at each second."""

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()


def _newest(views: list[dict[int, tuple[int, Address, bool]]]) -> dict[int, tuple[int, Address, bool]]:
    owners: dict[int, tuple[int, Address, bool]] = {}
    for view in views:
        for slot, owner in view.items():
            if slot not in owners or owner[0] > owners[slot][0] or (owner[0] == owners[slot][0] and not owner[2]):
                owners[slot] = owner
    return owners


def _read_nodes(text: str, wanted: set[int]) -> tuple[dict[int, tuple[int, Address, bool]], list[Address]]:
    """Read CLUSTER NODES: `id host:port@bus[,name] flags primary ping pong epoch link slot slot-slot …`."""
    owners: dict[int, tuple[int, Address, bool]] = {}
    nodes = []
    for line in text.splitlines():
        _, where, flags, _, _, _, epoch, link, *slots = line.split(" ")
        host, _, port = where.partition("@")[0].rpartition(":")
        if "noaddr" in flags or not host or "handshake" in flags:
            continue
        address = host, int(port)
        nodes.append(address)
        if "master" not in flags.split(","):
            continue
        is_well = "fail" not in flags and (link == "connected" or "myself" in flags)
        for each in slots:
            if each.startswith("["):
                continue
            first, _, last = each.partition("-")
            lowest, highest = int(first), int(last or first)
            owners.update({slot: (int(epoch), address, is_well) for slot in wanted if lowest <= slot <= highest})
    return owners, nodes


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
