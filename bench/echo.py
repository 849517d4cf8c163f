"""The ceiling: a bare WebSocket echo on the library that the server uses, replies of one read in one write."""

from __future__ import annotations

import sys
from struct import pack

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


def frame(payload: bytes) -> bytes:
    """One unmasked binary frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 65536:
        return pack(">BBH", 0x82, 126, size) + payload
    return pack(">BBQ", 0x82, 127, size) + payload


class Echo(WSListener):
    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame_in: WSFrame) -> None:
        if frame_in.msg_type is not WSMsgType.BINARY:
            if frame_in.msg_type is WSMsgType.PING:
                transport.send_pong(frame_in.get_payload_as_bytes())
            return
        payload = frame_in.get_payload_as_bytes()
        if frame_in.last_in_buffer and not self.replies:
            transport.send(WSMsgType.BINARY, payload)
            return
        self.replies.append(frame(payload))
        if frame_in.last_in_buffer:
            transport.underlying_transport.write(b"".join(self.replies))
            self.replies.clear()


async def serve() -> None:
    def listener(_request: WSUpgradeRequest) -> WSListener:
        return Echo()

    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]))
    sys.stdout.write(f"listening {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
