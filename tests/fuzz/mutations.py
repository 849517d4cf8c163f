"""Bytes that nearly are what a port expects: drawn from a grammar, then broken."""

from __future__ import annotations

import base64
import re
import struct
from random import Random

from protocol.client_codec import encode_query
from tests.server.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

WORDS = (
    "QUEUE", "CACHE", "SYS", "CACHESTORE", "ADD", "ACK", "RETRIEVE", "RESULT", "RESULT_BLOCKING", "LIST",
    "WITH_PAYLOAD", "PENDING", "ACTIVE", "STALLED", "ORPHANED", "TO_CANCEL", "CANCEL", "HEARTBEAT",
    "MERGE_EXTRA", "GET", "SET", "KEYS", "INCR", "REMOVE", "CLEAR", "TRUNCATE", "INFO", "EVICTION", "PRIORITY",
    "CONCURRENCY", "EXTENDED", "TTL", "NX", "EXCLUSIVE", "EXTERNAL_ID", "NULL", "?", "SELECT", "FROM",
    "system.queue", "system.cache", "system.history", "WHERE", "CAST", "AS", "date(", ")", "(", ",", "*", "=",
    "LIKE", "IS", "NOT", "IN", "CASE", "WHEN", "END", "AND", "OR", "UNION", "CREATE", "TABLE", "DROP", "SHOW",
    "EXPLAIN", "--", "/*", "*/", ";", "::int"
)  # fmt: skip
SHAPES = (
    "QUEUE ADD PRIORITY {n} {t} {t}", "QUEUE RETRIEVE CONCURRENCY {n} {t}", "QUEUE ACK {k} {t}", "QUEUE HEARTBEAT {k}",
    "QUEUE RESULT_BLOCKING {n} {k}", "QUEUE LIST WITH_PAYLOAD {t}", "QUEUE TO_CANCEL {n} {n} {t}", "QUEUE CANCEL {k}",
    "QUEUE MERGE_EXTRA {k} {t}", "CACHE SET TTL {n} {t} {t}", "CACHE GET {t}", "CACHE INCR {t}", "CACHE KEYS {t}",
    "SELECT {w} FROM system.queue WHERE id = {t}", "SELECT {w}({n}, {t}) + {n}", "SYS CACHESTORE {w}",
)  # fmt: skip
_MARK = re.compile(r"\{[ntkw]\}")
EDGES = (0, 1, -1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, 2**64, 10**40)


def statement(random: Random) -> bytes:
    """Text that may be a statement."""
    if random.random() < 0.3:
        return " ".join(random.choice(WORDS) for _ in range(random.randrange(1, 30))).encode()
    makers = {"{n}": number, "{t}": literal, "{k}": key, "{w}": word}
    made = _MARK.sub(lambda found: makers[found[0]](random), random.choice(SHAPES))
    data = made.encode(errors="replace")
    return broken(data, random) if random.random() < 0.3 else data


def number(random: Random) -> str:
    return str(random.choice(EDGES) if random.random() < 0.4 else random.randrange(100))


def word(random: Random) -> str:
    return random.choice(WORDS)


def key(random: Random) -> str:
    return number(random) if random.random() < 0.4 else literal(random)


def literal(random: Random) -> str:
    """A quoted text: short, long, of another alphabet, nested, not closed."""
    text = random.choice(
        (
            f"q:{random.randrange(20)}",
            "x" * random.randrange(3_000),
            "ä\u2028\U0001f600" * random.randrange(40),
            "[" * random.randrange(400),
            '{"a":' * random.randrange(60) + "1" + "}" * random.randrange(60),
            "\\" * random.randrange(9),
            "'" * random.randrange(4),
        )
    )
    return random.choice(("'", "'", "'", '"', "`", "X'")) + text + random.choice(("'", "'", "'", '"', ""))


def broken(data: bytes, random: Random) -> bytes:
    """The same with some bytes changed, cut, doubled or inserted."""
    mutable = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(mutable) + 1)
        match random.randrange(5):
            case 0 if at < len(mutable):
                mutable[at] = random.randrange(256)
            case 1:
                del mutable[at : at + random.randrange(20)]
            case 2:
                mutable[at:at] = mutable[at : at + random.randrange(50)] * random.randrange(4)
            case 3:
                mutable[at:at] = random.randbytes(random.randrange(8))
            case _ if at + 4 <= len(mutable):
                struct.pack_into("<I", mutable, at, random.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
    return bytes(mutable)


def message(random: Random) -> bytes:
    """A message of the WebSocket port."""
    parameters = None
    if random.random() < 0.3:
        parameters = [
            random.choice((None, True, 1, -(2**63), 1.5, b"text", b"\xff", b"x" * random.randrange(5_000)))
            for _ in range(random.randrange(6))
        ]
    made = encode_query(
        random.randrange(2**32), statement(random), parameters, connection_id=random.choice((None, "c", "d" * 36))
    )
    return broken(made, random) if random.random() < 0.4 else made


def frames(random: Random) -> bytes:
    """Some frames of one connection, well formed or not."""
    made = bytearray()
    for _ in range(random.randrange(1, 12)):
        content = message(random)
        match random.randrange(8):
            case 0:
                cut = random.randrange(len(content) + 1)
                made += frame(BINARY, content[:cut], fin=False) + frame(CONTINUATION, content[cut:])
            case 1:
                made += frame(random.choice((PING, PONG)), content[: random.choice((0, 125, 126))])
            case 2 if random.random() < 0.2:
                made += frame(random.choice((CLOSE, TEXT, 3, 11)), content[:100])
            case 3 if random.random() < 0.2:
                made += frame(BINARY, content, rsv=random.randrange(8), mask=None)
            case _:
                made += frame(BINARY, content)
    return broken(bytes(made), random) if random.random() < 0.1 else bytes(made)


def request(random: Random) -> bytes:
    """A request of HTTP: for either port."""
    path = random.choice(
        ("/ws", "/", "/metrics", "/livez", "/api/queues", "/api/item", "/upload", "*", "//", "/%ff?a=b")
    )
    query = random.choice(("", f"?q={'x' * random.randrange(3_000)}", "?sort=%00&page=-1", f"?page={number(random)}"))
    headers = [
        ("Host", random.choice(("localhost", "evil.example", "[::1]:3031", "", "x" * 300))),
        ("Upgrade", "websocket"),
        ("Connection", random.choice(("Upgrade", "keep-alive, Upgrade", "close"))),
        ("Sec-WebSocket-Version", random.choice(("13", "12"))),
        ("Sec-WebSocket-Key", base64.b64encode(random.randbytes(16)).decode()),
        ("Origin", "http://evil.example"),
        ("Authorization", "Basic " + base64.b64encode(random.randbytes(9)).decode()),
        ("Content-Length", number(random)),
        ("Transfer-Encoding", "chunked"),
        ("X-Process-Id", "p" * random.choice((1, 64, 65))),
    ]
    chosen = random.sample(headers, random.randrange(len(headers)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in chosen)
    made = f"{random.choice(('GET', 'GET', 'POST', 'HEAD', 'PRI'))} {path}{query} HTTP/1.1\r\n{lines}\r\n".encode()
    return broken(made, random) if random.random() < 0.5 else made


def packets(random: Random) -> bytes:
    """What a MySQL client may send behind its login: commands, well formed or not."""
    made = bytearray()
    for _ in range(random.randrange(1, 10)):
        command = random.choice(
            (0x01, 0x02, 0x03, 0x03, 0x03, 0x0E, 0x11, 0x16, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1F, 0xFF)
        )
        content = statement(random) if command in {0x03, 0x16} else random.randbytes(random.randrange(40))
        body = bytes((command,)) + content
        made += len(body).to_bytes(3, "little") + bytes((0 if random.random() < 0.9 else random.randrange(256),)) + body
    return broken(bytes(made), random) if random.random() < 0.2 else bytes(made)
