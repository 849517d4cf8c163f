"""Passes messages of clients on to the CubeStore behind: a link for each client that has need of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubequeue_server.net.websocket import LargeMessage
from cubequeue_server.requests.ask import Ask
from cubequeue_server.requests.client import Client
from protocol.messages import Request
from storage.asking import Caller
from storage.vocabulary import RequestKey, Statement

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.upstream import Upstream
    from cubequeue_server.requests.relayed_calls import RelayedCalls


class Relay:
    """`pass_on` is for a message that an engine has `RELAYED`."""

    def __init__(self, upstream: Upstream, max_call_reply_bytes: int) -> None:
        self._upstream = upstream
        self._max_call_reply_bytes = max_call_reply_bytes
        self._calls: RelayedCalls | None = None

    def pass_on(
        self,
        client: Client,
        request: Request,
        key: RequestKey | None,
        message: bytes | memoryview | LargeMessage,
    ) -> None:
        """Send a message up as it is, a large one without a copy; its answer goes to the client as it comes.

        Raises nothing.
        """
        link = client.link
        if link is None:
            link = client.link = self._upstream.open(client.caller.process_id, client.authorization, client.send)
            client.websocket.on_flow = link.on_client_flow
        payload, holder = (message.view, message.owner) if isinstance(message, LargeMessage) else (bytes(message), None)
        link.submit(request.message_id, key, payload, request.response_format, holder)

    def call(self, statement: Statement, caller: Caller) -> Ask:
        """Ask for a caller inside this process; the returned object is done with the answer."""
        if self._calls is None:
            from cubequeue_server.requests.relayed_calls import RelayedCalls  # noqa: PLC0415  # few servers need it

            self._calls = RelayedCalls(self._upstream, self._max_call_reply_bytes)
        return self._calls.call(statement, caller.connection)

    def forget_caller(self, caller: Caller) -> None:
        """A caller inside this process has gone."""
        if self._calls is not None:
            self._calls.forget(caller.connection)

    def forget(self, client: Client) -> None:
        """A client has gone."""
        link, client.link = client.link, None
        if link is not None:
            link.close()
