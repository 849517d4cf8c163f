"""Passes messages of clients on to the CubeStore behind: a link for each client that has need of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cubequeue_server.requests.client import Client
from protocol.messages import Request
from protocol.relayed import read_foreign_head
from storage.vocabulary import RequestKey

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.upstream import Upstream

# Gives the payload of a large message as long as it is wanted, and what keeps it.
Take = Callable[[], tuple[bytes | memoryview, object]]


class Relay:
    """`pass_on` is for a message that an engine has `RELAYED`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def pass_on(
        self,
        client: Client,
        request: Request,
        key: RequestKey | None,
        payload: bytes | memoryview,
        holder: object = None,
    ) -> None:
        """Send a message up as it is; its answer goes to the client as it comes. Raises nothing."""
        link = client.link
        if link is None:
            link = client.link = self._upstream.open(client.caller.process_id, client.authorization, client.send)
            client.websocket.on_flow = link.on_client_flow
        link.submit(request.message_id, key, payload, request.response_format, holder)

    def read_large(self, message: memoryview | bytes) -> Request | None:
        """What has to be known of a large message that passes, without its text; None for one that does not."""
        head = read_foreign_head(message)
        if head is None:
            return None
        return Request(head.message_id, head.connection_id, b"", None, head.response_format)

    def forget(self, client: Client) -> None:
        """A client has gone."""
        link, client.link = client.link, None
        if link is not None:
            link.close()
