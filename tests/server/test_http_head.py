"""Heads of HTTP requests: what is read, what is refused, and that both ports do the same (wire.md §1, config.md §2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.net.http_head import Answer, Head, RefusedError, take_head
from cubequeue_server.observe.status import StatusServer
from cubequeue_server.settings.values import Endpoint
from tests.server.client import Address, raw
from tests.server.harness import serving

LIMIT = 8 * 1024  # the smaller one, that of the status port

GET = b"GET /livez HTTP/1.1\r\n"
END = b"\r\n\r\n"

READ: dict[str, tuple[bytes, Head]] = {
    "no header": (GET + b"\r\n", Head(b"GET", b"/livez")),
    "a header": (GET + b"Host: x" + END, Head(b"GET", b"/livez", 1, ((b"host", b"x"),))),
    "blanks around a value": (GET + b"a:\t \tb  c \t" + END, Head(b"GET", b"/livez", 1, ((b"a", b"b  c"),))),
    "empty values": (GET + b"a:\r\nb: \t" + END, Head(b"GET", b"/livez", 1, ((b"a", b""), (b"b", b"")))),
    "a value of blanks": (GET + b"a:" + b" " * 8_000 + END, Head(b"GET", b"/livez", 1, ((b"a", b""),))),
    "a value outside ASCII": (GET + b"a: \xc3\xa9\xff" + END, Head(b"GET", b"/livez", 1, ((b"a", b"\xc3\xa9\xff"),))),
    "a repeated header": (GET + b"A: 1\r\na: 2" + END, Head(b"GET", b"/livez", 1, ((b"a", b"1"), (b"a", b"2")))),
    "100 headers": (GET + b"a: b\r\n" * 99 + b"a: b" + END, Head(b"GET", b"/livez", 1, ((b"a", b"b"),) * 100)),
    "HTTP/1.0": (b"GET /livez HTTP/1.0" + END, Head(b"GET", b"/livez", 0)),
    "an absolute target": (b"GET http://x:1/livez?a HTTP/1.1" + END, Head(b"GET", b"http://x:1/livez?a")),
    "a target outside ASCII": (b"GET /\xff HTTP/1.1" + END, Head(b"GET", b"/\xff")),
    "a length": (GET + b"Content-Length: 5" + END, Head(b"GET", b"/livez", 1, ((b"content-length", b"5"),))),
    "a chunked body": (
        GET + b"Transfer-Encoding: chunked" + END,
        Head(b"GET", b"/livez", 1, ((b"transfer-encoding", b"chunked"),)),
    ),
    "an unknown method": (b"PROPFIND /livez HTTP/1.1" + END, Head(b"PROPFIND", b"/livez")),
}

REFUSED: dict[str, tuple[bytes, int]] = {
    "an empty line first": (END + GET + END, 400),
    "a handshake of TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "zeros": (b"\0\0\0\0", 400),
    "JSON": (b"{}" + END, 400),
    "no version": (b"GET /livez" + END, 400),
    "HTTP/2": (b"PRI * HTTP/2.0" + END + b"SM" + END, 400),
    "HTTP/1.2": (b"GET /livez HTTP/1.2" + END, 400),
    "another protocol": (b"GET /livez SPDY/3" + END, 400),
    "no target": (b"GET  HTTP/1.1" + END, 400),
    "two blanks before the target": (b"GET  /livez HTTP/1.1" + END, 400),
    "a blank in the target": (b"GET /li vez HTTP/1.1" + END, 400),
    "a tab for a blank": (b"GET\t/livez HTTP/1.1" + END, 400),
    "a blank behind the version": (b"GET /livez HTTP/1.1 " + END, 400),
    "a method outside ASCII": (b"G\xff /livez HTTP/1.1" + END, 400),
    "a control character in the target": (b"GET /\x01 HTTP/1.1" + END, 400),
    "no colon": (GET + b"no colon" + END, 400),
    "no name": (GET + b": x" + END, 400),
    "a blank in a name": (GET + b"bad name: x" + END, 400),
    "a blank before the colon": (GET + b"a : x" + END, 400),
    "a name outside ASCII": (GET + b"\xe9: x" + END, 400),
    "a folded line": (GET + b"a: 1\r\n folded" + END, 400),
    "a line folded by a tab": (GET + b"a: 1\r\n\tfolded" + END, 400),
    "NUL": (GET + b"a: \0" + END, 400),
    "DEL": (GET + b"a: \x7f" + END, 400),
    "a bare LF in a value": (GET + b"a: b\nc: d" + END, 400),
    "a bare CR in a value": (GET + b"a: b\rc: d" + END, 400),
    "lines that end with a bare LF": (b"GET /livez HTTP/1.1\na: b" + END, 400),
    "two Hosts": (GET + b"Host: x\r\nhost: x" + END, 400),
    "two lengths": (GET + b"Content-Length: 5\r\nContent-Length: 6" + END, 400),
    "the same length twice": (GET + b"Content-Length: 5\r\ncontent-length: 5" + END, 400),
    "a length and chunks": (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked" + END, 400),
    "two transfer encodings": (GET + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked" + END, 400),
    "101 headers": (GET + b"a: b\r\n" * 100 + b"a: b" + END, 431),
    "a head without an end": (GET + b"a: " + b"x" * 20_000, 431),
    "a head that ends too late": (GET + b"a: " + b"x" * 20_000 + END, 431),
}


@pytest.mark.parametrize(("sent", "head"), READ.values(), ids=READ)
def test_read(sent: bytes, head: Head) -> None:
    assert take_head(bytearray(sent), LIMIT) == (head, b"")


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(sent: bytes, status: int) -> None:
    with pytest.raises(RefusedError) as raised:
        take_head(bytearray(sent), LIMIT)
    assert raised.value.status == status


@pytest.mark.parametrize("blanks", [b" " * 16_000, b"\t " * 8_000, b"a " * 8_000])
def test_a_header_of_blanks_holds_nobody_up(blanks: bytes) -> None:
    """It once took an hour: the expression tried all ways to divide the blanks."""
    started_s = time.process_time()
    with pytest.raises(RefusedError, match="a header line cannot be read"):
        take_head(bytearray(GET + b"a:" + blanks + b"\0" + END), 17_000)
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize("spare", [0, 1])
def test_the_limit_is_exact(spare: int) -> None:
    sent = bytearray(GET + b"a: " + b"x" * 500 + END)
    if spare:
        assert take_head(sent, len(sent)) is not None
    else:
        with pytest.raises(RefusedError):
            take_head(sent, len(sent) - 1)


@pytest.mark.parametrize(
    ("target", "path", "parameters"),
    [
        (b"/a", b"/a", {}),
        (b"/a?", b"/a", {}),
        (b"/a?x=1%20&y=&x=2&z", b"/a", {"x": "2", "y": "", "z": ""}),
        (b"http://x/a?b=c", b"/a", {"b": "c"}),
        (b"HTTPS://x:1/a", b"/a", {}),
        (b"http://x?b=c", b"", {"b": "c"}),
        (b"/ahttp://x", b"/ahttp://x", {}),
        (b"/a?b=http://x/c", b"/a", {"b": "http://x/c"}),
        (b"*", b"*", {}),
    ],
)
def test_parts_of_a_target(target: bytes, path: bytes, parameters: dict[str, str]) -> None:
    head = Head(b"GET", target)
    assert (head.path, head.parameters) == (path, parameters)


def test_headers_of_a_head() -> None:
    head = Head(b"GET", b"/", headers=((b"a", b"1"), (b"b", b"x"), (b"a", b"Two, three")))
    assert (head.header(b"a"), head.header(b"b"), head.header(b"c")) == (b"1, Two, three", b"x", None)
    assert [head.has_token(b"a", token) for token in (b"1", b"two", b"three", b"tw")] == [True, True, True, False]
    assert not head.has_token(b"c", b"1")


def test_an_answer_to_head_is_without_the_body() -> None:
    answer = Answer(409, b"body", "text/x", {"allow": "GET"})
    head = (
        b"HTTP/1.1 409 Conflict\r\nContent-Type: text/x\r\nContent-Length: 4\r\nConnection: close\r\nallow: GET\r\n\r\n"
    )
    assert answer.encode() == head + b"body"
    assert answer.encode(has_body=False) == head


HEADS = st.sampled_from([sent for sent, _ in (*READ.values(), *REFUSED.values())])
CHANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9), st.binary(max_size=4)), max_size=3)


def outcome(pieces: list[bytes]) -> object:
    """What comes of a head that arrives in these pieces."""
    buffer = bytearray()
    try:
        for number, piece in enumerate(pieces, 1):
            buffer += piece
            read = take_head(buffer, LIMIT)
            if read is not None:
                assert not buffer
                return read[0], read[1] + b"".join(pieces[number:])
    except RefusedError as refused:
        return refused.status, refused.text
    return None


@given(HEADS, CHANGES, st.lists(st.integers(1, 60), max_size=40))
def test_any_bytes_in_any_pieces_have_one_outcome(
    sent: bytes, changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    for at, dropped, put in changes:
        sent = sent[:at] + put + sent[at + dropped :]
    if not sent:
        return
    pieces, rest = [], sent
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    whole = outcome([sent])
    assert outcome([piece for piece in (*pieces, rest) if piece]) == whole
    if len(sent) < 500:
        assert outcome([sent[at : at + 1] for at in range(len(sent))]) == whole


NAMES = st.from_regex(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,20}", fullmatch=True).filter(
    lambda name: name not in {b"host", b"content-length", b"transfer-encoding"}
)
VALUES = st.from_regex(rb"[\t -~\x80-\xff]{0,30}", fullmatch=True).map(lambda value: value.strip(b" \t"))


@given(
    st.from_regex(rb"[A-Z]{1,9}", fullmatch=True),
    st.from_regex(rb"[!-~\x80-\xff]{1,50}", fullmatch=True),
    st.lists(st.tuples(NAMES, VALUES), max_size=20),
    st.binary(max_size=20),
)
def test_what_is_written_is_read(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
    sent = b"%b %b HTTP/1.1\r\n" % (method, target) + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
    assert take_head(bytearray(sent + rest), LIMIT) == (Head(method, target, 1, tuple(headers)), rest)


@asynccontextmanager
async def listening(port: str) -> AsyncIterator[Address]:
    """A real server: the address of its `websocket` or its `status` port."""
    if port == "websocket":
        async with serving() as server:
            yield server.address
    else:
        status = StatusServer(Endpoint("127.0.0.1", 0), {"/livez": lambda _: Answer(200)})
        await status.start()
        try:
            yield status.address
        finally:
            await status.stop()


async def codes(address: Address, sent: bytes, step: int | None = None) -> list[int]:
    """The status codes that a connection answers before it closes."""
    async with raw(address) as client:
        for at in range(0, len(sent), step or len(sent)):
            await client.send(sent[at : at + (step or len(sent))])
        answers = await client.read_to_end()
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest.mark.parametrize("port", ["websocket", "status"])
async def test_both_ports_refuse_the_same(port: str) -> None:
    async with listening(port) as address:
        for name, (sent, status) in REFUSED.items():
            assert (name, await codes(address, sent)) == (name, [status])


@pytest.mark.parametrize(("port", "status"), [("websocket", 404), ("status", 200)])
async def test_both_ports_read_the_same(port: str, status: int) -> None:
    async with listening(port) as address:
        for name, (sent, head) in READ.items():
            wanted = (
                405 if head.method == b"PROPFIND" and port == "status" else 404 if b"\xff" in head.target else status
            )
            assert (name, await codes(address, sent)) == (name, [wanted])


@pytest.mark.parametrize(("port", "status"), [("websocket", 404), ("status", 200)])
async def test_a_head_may_come_byte_by_byte(port: str, status: int) -> None:
    async with listening(port) as address:
        assert await codes(address, READ["a header"][0], step=1) == [status]


@pytest.mark.parametrize(("port", "status"), [("websocket", 404), ("status", 200)])
async def test_one_request_a_connection(port: str, status: int) -> None:
    """Pipelined requests get no answer: the connection ends behind the first one."""
    async with listening(port) as address:
        assert await codes(address, READ["a header"][0] * 3) == [status]


@pytest.mark.parametrize("port", ["websocket", "status"])
@pytest.mark.parametrize("sent", [b"G", GET, GET + b"a: b\r\n", b"GET / HTTP/1.1\nHost: x\n\n"])
async def test_an_unfinished_head_is_waited_for(port: str, sent: bytes) -> None:
    async with listening(port) as address, raw(address) as client:
        await client.send(sent)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read_to_end(), 0.05)
