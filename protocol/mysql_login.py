"""What a MySQL client says of itself: the answer to the greeting, a wish for TLS before it, and COM_CHANGE_USER."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.mysql_parameters import MalformedPacketError

PROTOCOL_41: Final = 0x0200
CONNECT_WITH_DB: Final = 0x0008
SSL: Final = 0x0800
PLUGIN_AUTH: Final = 0x0008_0000
_HEAD_BYTES: Final = 32  # capabilities, packet size, charset, filler


@dataclass(slots=True, frozen=True)
class Login:
    """`plugin` is what `response` was made with, None when the client did not say."""

    capabilities: int
    user: str
    response: bytes
    plugin: str | None


def asks_for_tls(packet: bytes, announced: int) -> bool:
    """Whether this is no login yet but the wish for TLS, which has the head of a login and nothing more."""
    capabilities = int.from_bytes(packet[:4], "little") & announced
    return len(packet) == _HEAD_BYTES and bool(capabilities & PROTOCOL_41 and capabilities & SSL)


def read_login(packet: bytes, announced: int) -> Login:
    """The answer to a greeting that announced these capabilities. Raises MalformedPacketError. Linear."""
    capabilities = int.from_bytes(packet[:4], "little") & announced
    if len(packet) <= _HEAD_BYTES or not capabilities & PROTOCOL_41:
        raise MalformedPacketError("this is no login of protocol 4.1")
    user, position = _until_nul(packet, _HEAD_BYTES)
    response, position = _counted(packet, position)
    if capabilities & CONNECT_WITH_DB:
        _, position = _until_nul(packet, position)
    return Login(capabilities, user, response, _plugin(packet, position, capabilities))


def read_change_user(packet: bytes, capabilities: int) -> Login:
    """COM_CHANGE_USER, without its first byte. Raises MalformedPacketError. Linear."""
    user, position = _until_nul(packet, 0)
    response, position = _counted(packet, position)
    _, position = _until_nul(packet, position)
    return Login(capabilities, user, response, _plugin(packet, position + 2, capabilities))


def _plugin(packet: bytes, position: int, capabilities: int) -> str | None:
    if not capabilities & PLUGIN_AUTH or position >= len(packet):
        return None
    return packet[position:].partition(b"\0")[0].decode(errors="replace")


def _until_nul(packet: bytes, position: int) -> tuple[str, int]:
    end = packet.find(b"\0", position)
    if end < 0:
        raise MalformedPacketError("a name is not closed")
    return packet[position:end].decode(errors="replace"), end + 1


def _counted(packet: bytes, position: int) -> tuple[bytes, int]:
    end = position + 1 + (packet[position] if position < len(packet) else len(packet))
    if end > len(packet):
        raise MalformedPacketError("the answer to the challenge is cut off")
    return packet[position + 1 : end], end
