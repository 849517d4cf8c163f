"""Names for clients: a process id or an address says little to people, the name of a pod says more."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

_MAX_KNOWN: Final = 10_000  # addresses
_MAX_LOOKUPS: Final = 16  # at the same time; later addresses are asked for when they come again
_FRESH_S: Final = 600.0  # afterwards an address is asked for again


class ClientNames:
    """Names by `given` (process id or address to name) and, with `by_dns`, by reverse DNS of the address."""

    def __init__(self, given: Mapping[str, str] | None = None, *, by_dns: bool = False) -> None:
        self._given = given or {}
        self._by_dns = by_dns
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()  # when it was asked for, and the name
        self._lookups: set[asyncio.Task[None]] = set()

    def name_of(self, process_id: bytes | None, peer: str) -> str | None:
        """The name of a client; `peer` is its address and port. O(1)."""
        if process_id is not None:
            name = self._given.get(process_id.decode(errors="replace"))
            if name is not None:
                return name
        host = host_of(peer)
        name = self._given.get(host)
        if name is None and host in self._known:
            name = self._known[host][1]
        return name

    def learn(self, peer: str) -> None:
        """Ask for the name of an address, if it is to be asked for. The answer comes later, or never."""
        host = host_of(peer)
        if not self._by_dns or not host or host in self._given or len(self._lookups) >= _MAX_LOOKUPS:
            return
        loop = asyncio.get_running_loop()
        asked_s, name = self._known.get(host, (-_FRESH_S, None))
        if loop.time() - asked_s < _FRESH_S:
            return
        self._known[host] = loop.time(), name
        self._known.move_to_end(host)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        task = loop.create_task(self._look_up(host))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _look_up(self, host: str) -> None:
        try:
            name, _ = await asyncio.get_running_loop().getnameinfo((host, 0), socket.NI_NAMEREQD)
        except OSError:
            return
        if host in self._known:
            self._known[host] = self._known[host][0], name


def host_of(peer: str) -> str:
    """The address without the port."""
    return peer.rpartition(":")[0].strip("[]")
