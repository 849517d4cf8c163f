"""Files on their way to the CubeStore behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.server.harness import until
from tests.upstream.harness import passing, standing_in
from tests.upstream.stand_in import Upload

HELD_BYTES = 512 * 1024
MIB = 1 << 20
NAME = "/upload-temp-file?name=prod.orders-0.csv.gz"


class Client:
    """Sends one request, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def begin(self, *headers: str, path: str = NAME) -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: cubequeue", "Connection: keep-alive", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode())
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def answer(self) -> tuple[int, str, bytes]:
        """Status, head and body; the connection has ended behind it."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        body = await self.reader.read()
        return int(head.split()[1]), head, body

    async def error(self) -> tuple[int, str]:
        status, _, body = await self.answer()
        return status, json.loads(body)["error"]


@asynccontextmanager
async def uploading(address: tuple[str, int]) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def header(upload: Upload, name: str) -> list[str]:
    return re.findall(rf"(?im)^{name}:[ \t]*(.*?)\r$", upload.head.decode("latin-1"))


async def test_a_file_arrives_as_it_was_sent_and_both_heads_are_rewritten() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        async with uploading(server.address) as client:
            await client.begin("Transfer-Encoding: chunked", "User-Agent: node-fetch/1.0", "x-process-id: worker-1")
            for data in (b"a", b"bc" * 5_000, b"d" * 200_000):
                await client.chunk(data)
            client.writer.write(b"0\r\n\r\nGET /ws HTTP/1.1\r\nsmuggled: yes\r\n\r\n")
            status, head, body = await client.answer()
        assert (status, body) == (200, b"")
        assert re.findall(r"(?im)^connection: (.*?)\r$", head) == ["close"]
        assert "content-length: 0" in head
        assert "date: Sat, 28 Nov 2026" in head
        (upload,) = stand_in.uploads
        assert upload.digest == hashlib.sha256(b"a" + b"bc" * 5_000 + b"d" * 200_000).hexdigest()
        assert upload.head.startswith(f"POST {NAME} HTTP/1.1\r\n".encode())
        assert header(upload, "host") == [f"127.0.0.1:{stand_in.port}"]
        assert header(upload, "connection") == ["close"]
        assert header(upload, "x-process-id") == ["worker-1"]
        assert header(upload, "user-agent") == ["node-fetch/1.0"]
        assert stand_in.connections == []
        await until(lambda: upstream.counters.uploads == 0)
        assert upstream.counters.uploads_done == 1
        assert upstream.counters.upload_held_peak_bytes <= HELD_BYTES


@pytest.mark.parametrize("headers", [("Content-Length: 0",), (), ("Content-Length: 100000",)])
async def test_bodies_of_other_lengths_pass(headers: tuple[str, ...]) -> None:
    body = b"x" * (100_000 if "100000" in "".join(headers) else 0)
    async with standing_in() as stand_in, passing(stand_in) as (server, _), uploading(server.address) as client:
        await client.begin(*headers)
        client.writer.write(body)
        assert (await client.answer())[0] == 200
        assert stand_in.uploads[0].size == len(body)


async def test_64_mib_at_8_mib_a_second_hold_little() -> None:
    digest = hashlib.sha256()
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.upload_bytes_per_s = 8 * MIB
        async with uploading(server.address) as client:
            await client.begin("Transfer-Encoding: chunked")
            for number in range(64 * 4):
                data = number.to_bytes(2) * (MIB // 8)
                digest.update(data)
                await client.chunk(data)
            client.writer.write(b"0\r\n\r\n")
            assert (await client.answer())[0] == 200
        (upload,) = stand_in.uploads
        assert upload.size == 64 * MIB
        assert upload.digest == digest.hexdigest()
        assert upstream.counters.upload_bytes >= 64 * MIB
        assert 0 < upstream.counters.upload_held_peak_bytes <= HELD_BYTES


async def test_a_client_that_vanishes_ends_the_tunnel_on_both_sides() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        async with uploading(server.address) as client:
            await client.begin("Transfer-Encoding: chunked")
            await client.chunk(b"x" * 1000)
            await until(lambda: bool(stand_in.uploads) and stand_in.uploads[0].size == 1000)
        await until(lambda: upstream.counters.uploads == 0)
        await until(lambda: not stand_in.is_uploading)
        assert not stand_in.uploads[0].is_whole
        assert upstream.counters.uploads_broken == 1


async def test_a_client_that_vanishes_after_its_file_ends_the_tunnel_too() -> None:
    never = asyncio.Event()

    async def answer(_: Upload) -> bytes:
        await never.wait()
        return b""

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.upload_answer = answer
        async with uploading(server.address) as client:
            await client.begin("Content-Length: 3")
            client.writer.write(b"abc")
            await until(lambda: bool(stand_in.uploads) and stand_in.uploads[0].is_whole)
        await until(lambda: upstream.counters.uploads == 0)


async def test_silence_after_the_body_is_no_idleness_and_silence_within_it_is() -> None:
    async def answer(_: Upload) -> bytes:
        await asyncio.sleep(1.0)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async with standing_in() as stand_in, passing(stand_in, upload_idle_timeout_s=0.2) as (server, upstream):
        stand_in.upload_answer = answer
        async with uploading(server.address) as client:
            await client.begin("Content-Length: 3")
            client.writer.write(b"abc")
            assert (await client.answer())[::2] == (200, b"ok")
        async with uploading(server.address) as client:
            await client.begin("Content-Length: 3")
            client.writer.write(b"ab")
            text = "the client sent nothing of the upload for 0.2 s (CUBEQUEUE_UPLOAD_IDLE_TIMEOUT)"
            assert await client.error() == (504, text)
        assert upstream.counters.uploads_idle == 1


async def test_a_cubestore_that_takes_nothing_is_idle() -> None:
    async with standing_in() as stand_in, passing(stand_in, upload_idle_timeout_s=0.5) as (server, _):
        stand_in.is_reading.clear()
        async with uploading(server.address) as client:
            await client.begin(f"Content-Length: {64 * MIB}")
            feeding = asyncio.ensure_future(_feed(client))
            status, text = await client.error()
            feeding.cancel()
        assert (status, "took nothing of the upload for 0.5 s" in text) == (504, True)
        stand_in.is_reading.set()


async def _feed(client: Client) -> None:
    for _ in range(64):
        client.writer.write(bytes(MIB))
        await client.writer.drain()


async def test_an_early_error_is_passed_on() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.credentials = ("cube", "secret")
        async with uploading(server.address) as client:
            await client.begin(f"Content-Length: {64 * MIB}")
            feeding = asyncio.ensure_future(_feed(client))
            assert await client.error() == (403, "Not authorized")
            feeding.cancel()
        assert upstream.counters.uploads_declined == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-", b"SMTP ready, and more than seven\r\n\r\n"])
async def test_a_lost_connection_is_a_502(answer: bytes) -> None:
    async def answered(_: Upload) -> bytes:
        return answer

    async with standing_in() as stand_in, passing(stand_in) as (server, _), uploading(server.address) as client:
        stand_in.upload_answer, stand_in.keeps_alive = answered, False
        await client.begin("Content-Length: 0")
        status, text = await client.error()
        assert status == 502
        assert text.startswith(f"The connection to CubeStore at ws://127.0.0.1:{stand_in.port} was lost")


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def answered(_: Upload) -> bytes:
        return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody"

    async with standing_in() as stand_in, passing(stand_in) as (server, _), uploading(server.address) as client:
        stand_in.upload_answer, stand_in.keeps_alive = answered, False
        await client.begin("Content-Length: 0", "Expect: 100-continue")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        assert (await client.answer())[::2] == (200, b"body")


async def test_an_upload_waits_for_a_cubestore_that_is_restarted_and_fails_in_time() -> None:
    async with standing_in() as stand_in, passing(stand_in, timeout_s=1.0) as (server, upstream):
        await stand_in.stop()
        async with uploading(server.address) as client:
            await client.begin("Content-Length: 3")
            client.writer.write(b"abc")
            await asyncio.sleep(0.2)
            await stand_in.start()
            assert (await client.answer())[0] == 200
        await stand_in.stop()
        async with uploading(server.address) as client:
            await client.begin("Content-Length: 3")
            status, text = await client.error()
            assert status == 502
            assert re.fullmatch(
                rf"CubeStore at ws://127.0.0.1:{stand_in.port} cannot be reached: Connection refused \(waited \d s\)\."
                " Queue and cache are not affected.",
                text,
            )
        assert upstream.counters.uploads_unreachable == 1
        await stand_in.start()


async def test_one_upload_past_the_limit_is_refused() -> None:
    async with (
        standing_in() as stand_in,
        passing(stand_in, max_uploads=2) as (server, upstream),
        uploading(server.address) as first,
        uploading(server.address) as second,
    ):
        for client in (first, second):
            await client.begin("Transfer-Encoding: chunked")
            await client.chunk(b"x")
        await until(lambda: upstream.counters.uploads == 2)
        async with uploading(server.address) as third:
            await third.begin("Content-Length: 0")
            text = "2 uploads to CubeStore run already, the limit is CUBEQUEUE_MAX_UPLOADS"
            assert await third.error() == (503, text)
        first.writer.write(b"0\r\n\r\n")
        assert (await first.answer())[0] == 200
        await until(lambda: upstream.counters.uploads == 1)
        async with uploading(server.address) as fourth:
            await fourth.begin("Content-Length: 0")
            assert (await fourth.answer())[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: x",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked", "Content-Length: 3"),
        ("Content-Length: 1", "Content-Length: 1"),
        ("Content-Length: " + "9" * 30,),
    ],
)
async def test_a_body_without_a_clear_length_is_refused(headers: tuple[str, ...]) -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _), uploading(server.address) as client:
        await client.begin(*headers)
        assert (await client.error())[0] == 400
        assert stand_in.uploads == []


async def test_chunks_that_break_the_protocol_end_the_upload() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), uploading(server.address) as client:
        await client.begin("Transfer-Encoding: chunked")
        client.writer.write(b"3\r\nabcd\r\n")
        assert await client.error() == (400, "a chunk does not end where it should")
        await until(lambda: not stand_in.is_uploading)
        assert not stand_in.uploads or not stand_in.uploads[0].is_whole
        assert upstream.counters.uploads_broken == 1


async def test_files_are_posted() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _), uploading(server.address) as client:
        client.writer.write(f"PUT {NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert await client.error() == (405, "files are uploaded with POST")
        assert stand_in.uploads == []


@pytest.mark.soak
async def test_two_gib_hold_little() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), uploading(server.address) as client:
        await client.begin(f"Content-Length: {2 << 30}")
        for _ in range(2 << 10):
            client.writer.write(bytes(MIB))
            await client.writer.drain()
        assert (await client.answer())[0] == 200
        assert stand_in.uploads[0].size == 2 << 30
        assert upstream.counters.upload_held_peak_bytes <= HELD_BYTES
