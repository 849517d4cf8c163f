"""A bare echo, run as a module by `cubequeue bench`: what its generator reaches when the server does nothing."""

from __future__ import annotations

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from cubequeue_server.commands.client import Connection
from protocol.client_codec import Reply, Rows
from protocol.flat import fields, follow, read_u32


class EchoConnection(Connection):
    """A client of the echo: what comes back is the query, and its message id is all that counts."""

    def decode(self, message: bytes) -> Reply:
        """No rows, for the message that the query names."""
        position = follow(message, 0)
        id_, *_ = fields(message, position, 4)
        return Rows(read_u32(message, position + id_)[0], (), [])


class _Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            transport.send(WSMsgType.BINARY, frame.get_payload_as_bytes())


async def _serve() -> None:
    def listener(_request: WSUpgradeRequest) -> WSListener:
        return _Echo()

    server = await ws_create_server(listener, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
