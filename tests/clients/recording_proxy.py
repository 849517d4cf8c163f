"""A WebSocket proxy before a server that keeps a record of what passes: who asked what, and what was answered."""

from __future__ import annotations

import importlib
import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from protocol.client_codec import ArrowReply, ErrorReply, Reply, Rows, decode_reply
from protocol.decode import decode_request
from protocol.messages import Request

_FORWARDED = ("x-process-id", "authorization")
_ANNOUNCED = "X-CubeStore-Version"
# Bounds of time and size are the affair of the two ends; websockets is told to have none of its own.
_UNBOUNDED: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}


@dataclass
class Exchange:
    """A request and its reply; None while there is none."""

    request: Request
    reply: Reply | None = None

    @property
    def text(self) -> str:
        """The statement."""
        return self.request.query.decode()

    @property
    def error(self) -> str | None:
        """The text of an HttpError."""
        return self.reply.text if isinstance(self.reply, ErrorReply) else None

    def rows(self) -> list[dict[str, object]]:
        """The rows of the reply: texts where it is a legacy one, Arrow's own values where it is Arrow."""
        if isinstance(self.reply, Rows):
            return [dict(zip(self.reply.columns, row, strict=True)) for row in self.reply.rows]
        if isinstance(self.reply, ArrowReply) and self.reply.stream is not None:
            pa: Any = importlib.import_module("pyarrow")
            with pa.ipc.open_stream(self.reply.stream) as reader:
                rows: list[dict[str, object]] = reader.read_all().to_pylist()
            return rows
        return []


class RecordingProxy:
    """Stands before the server at `upstream_port` of this machine, on a port of its own."""

    def __init__(self, upstream_port: int) -> None:
        self.exchanges: list[Exchange] = []
        self._upstream = f"ws://127.0.0.1:{upstream_port}/ws"
        self._connections: dict[ServerConnection, ClientConnection] = {}
        self._stack = ExitStack()  # of all connections to the server
        logger = logging.getLogger(__name__)
        logger.setLevel(logging.CRITICAL)  # ends of connections are no news
        self._server = serve(
            self._forward,
            "127.0.0.1",
            0,
            process_request=self._connect,
            process_response=self._announce,
            logger=logger,
            **_UNBOUNDED,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._stack.close()

    def _connect(self, connection: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        try:
            upstream = self._stack.enter_context(
                connect(self._upstream, additional_headers=headers, user_agent_header=None, **_UNBOUNDED)
            )
        except OSError:
            return HttpResponse(502, "Bad Gateway", Headers())
        self._connections[connection] = upstream
        return None

    def _announce(self, connection: ServerConnection, _: HttpRequest, response: HttpResponse) -> None:
        upstream = self._connections.get(connection)
        if upstream is not None and upstream.response is not None and _ANNOUNCED in upstream.response.headers:
            response.headers[_ANNOUNCED] = upstream.response.headers[_ANNOUNCED]

    def _forward(self, client: ServerConnection) -> None:
        upstream = self._connections[client]
        waiting: dict[int, Exchange] = {}
        replies = threading.Thread(target=self._forward_replies, args=(client, upstream, waiting), daemon=True)
        replies.start()
        try:
            for message in client:
                assert isinstance(message, bytes)
                exchange = Exchange(decode_request(message))
                waiting[exchange.request.message_id] = exchange
                self.exchanges.append(exchange)
                upstream.send(message)
        except ConnectionClosed:
            pass
        finally:
            upstream.close()
            replies.join()
            del self._connections[client]

    @staticmethod
    def _forward_replies(client: ServerConnection, upstream: ClientConnection, waiting: dict[int, Exchange]) -> None:
        try:
            for message in upstream:
                assert isinstance(message, bytes)
                reply = decode_reply(message)
                waiting.pop(reply.message_id).reply = reply
                client.send(message)
        except ConnectionClosed:
            pass
        finally:
            client.close()
