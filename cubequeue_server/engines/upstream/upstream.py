"""The pass-through as the server sees it: links for its clients, and whether the CubeStore is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.blame import Blame
from cubequeue_server.engines.upstream.connection import Shared
from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.engines.upstream.dialer import Dialer
from cubequeue_server.engines.upstream.link import Link
from cubequeue_server.engines.upstream.statement import Waiting
from cubequeue_server.engines.upstream.target import Target
from cubequeue_server.engines.upstream.uploads import Request, Uploads
from cubequeue_server.net.http_head import Head
from cubequeue_server.options import ServerOptions
from protocol.pieces import Message


class Upstream:
    """Made in a running loop. `start` looks whether the CubeStore is there; nothing waits for that."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.counters = UpstreamCounters()
        waiting = Waiting(target.max_waiting, target.max_waiting_bytes, self.counters)
        self._shared = Shared(target, self.counters, waiting)
        self._dialer = Dialer(self._shared)
        self._blame = Blame(self._shared.loop, target.settle_s, target.timeout_s)
        self.uploads = Uploads(target, self.counters)
        self._links: dict[Link, None] = {}

    def start(self) -> None:
        """Look whether it is there."""
        self._dialer.probe()

    def stop(self) -> None:
        """Close all connections; what waits gets no answer."""
        self._dialer.stop()
        self._blame.stop()
        for link in list(self._links):
            link.close()
        self.uploads.stop()

    def open(self, process_id: bytes | None, authorization: bytes | None, deliver: Callable[[Message], None]) -> Link:
        """A link for a client with this process id and `Authorization` header; its connection opens when needed."""
        headers = [*self.target.headers(process_id, authorization)]
        link = Link(self._shared, self._dialer, self._blame, headers=headers, deliver=deliver, forget=self._forget)
        self._links[link] = None
        return link

    def take_upload(
        self,
        options: ServerOptions,
        transport: asyncio.Transport,
        head: Head,
        process_id: bytes | None,
        already_read: bytes,
    ) -> None:
        """Pass an upload on, whose connection is not the caller's any more. Raises RefusedError."""
        request = Request(transport, head, process_id, already_read)
        self.uploads.begin(request, options.close_timeout_s, options.max_discarded_bytes)

    def _forget(self, link: Link) -> None:
        self._links.pop(link, None)

    @property
    def reason(self) -> str:
        """Why the last attempt to connect failed."""
        return self._dialer.reason

    @property
    def absence(self) -> str | None:
        """Why statements cannot be answered where the CubeStore is required; None when they can, or need not be."""
        if not self.target.is_required or self.counters.is_up:
            return None
        return texts.away(self.target, self.reason)
