"""The port inside of TLS: the same protocol, the same bounds, and certificates that change."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from pathlib import Path

import pytest

from cubequeue_server.access.reloading import Tls, TlsError
from protocol.client_codec import Rows, encode_query
from storage.limits import MIB
from tests.certificates import Certificate, make_certificate
from tests.server.client import BINARY, CLOSE, PING, PONG, UPGRADE, connected, frame, raw
from tests.server.harness import serving, until
from tests.server.test_handshake import read_refusal, request

QUERY = frame(BINARY, encode_query(7, "CACHE SET 'a' 'b'"))
DONE = Rows(7, ("success",), [(b"true",)])


async def test_requests_small_and_large(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, connected(server.address, tls=trusting) as client:
        for size in (0, 100, 10_000, 100_000, 5_000_000):
            await client.ask("CACHE SET 'a' ?", [b"x" * size])
            assert await client.rows("CACHE GET 'a'") == [(b"x" * size,)]
        waiting = [await client.send("QUEUE RESULT_BLOCKING 20 5") for _ in range(10)]
        for id_ in waiting:
            await client.reply(id_)


async def test_all_in_one_record_and_cut_at_every_byte(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """The head, the first frame and the end of the handshake may come together."""
    async with serving(tls=context) as server:
        for _ in range(20):
            async with raw(server.address, trusting) as client:
                await client.send(UPGRADE + QUERY + frame(PING, b"p"))
                await client.read_head()
                assert await client.read_reply() == DONE
                assert await client.read_frame() == (PONG, b"p")
        async with raw(server.address, trusting) as client:
            for byte in UPGRADE + QUERY:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            await client.read_head()
            assert await client.read_reply() == DONE


async def test_nothing_leaves_in_the_clear(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """What goes to the socket behind the back of TLS would break the stream; here the bytes themselves are seen."""
    seen = bytearray()
    async with serving(tls=context) as server:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream_reader, upstream_writer = await asyncio.open_connection(*server.address)

            async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    seen.extend(data)
                    target.write(data)
                target.close()

            await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer), return_exceptions=True)

        proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
        async with connected(proxy.sockets[0].getsockname(), tls=trusting, x_process_id="needle") as client:
            await client.ask("CACHE SET 'needle' 'needle'")
            assert await client.rows("CACHE GET 'needle'") == [(b"needle",)]
        proxy.close()
    assert len(seen) > 500
    assert b"needle" not in seen


async def test_a_close_is_quick_and_in_order(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tls=context) as server, raw(server.address, trusting) as client:
        await client.upgrade()
        started = loop.time()
        await client.send(QUERY + frame(CLOSE, struct.pack(">H", 1000)))
        assert await client.read_reply() == DONE
        assert await client.read_close() == (1000, "")
        assert await client.read_to_end() == b""
        await until(lambda: not server.counters.connections)
        assert loop.time() - started < 2


async def test_a_client_in_full_flight_sees_the_reason(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with (
        serving(tls=context, max_message_bytes=MIB, max_frame_bytes=MIB) as server,
        raw(server.address, trusting) as client,
    ):
        await client.upgrade()
        await client.send(b"\x82\xff" + struct.pack(">Q", 32 * MIB) + b"abcd")
        for _ in range(32):
            await client.send(bytes(MIB))
        assert (await client.read_close())[0] == 1009


async def test_an_upload_in_full_flight_sees_the_refusal(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, raw(server.address, trusting) as client:
        await client.send(b"POST /upload-temp-file HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            await client.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        assert (await read_refusal(client))[0] == 405


async def test_a_stop_closes_all_in_time(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, connected(server.address, tls=trusting) as client:
        await client.send("QUEUE RESULT_BLOCKING 60000 5")
        await client.settle()
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert await client.closed() == (1012, "cubequeue is stopping")
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_client_that_does_not_read_is_not_read_from(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with (
        serving(tls=context) as server,
        raw(server.address, trusting) as client,
        connected(server.address, tls=trusting) as bystander,
    ):
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(0, "CACHE SET 'a' ?", [b"x" * MIB])))
        await client.read_reply()
        client.writer.write(frame(BINARY, encode_query(1, "CACHE GET 'a'", trace="t" * 10_000)) * 3000)
        await asyncio.sleep(0.5)
        messages = server.counters.messages_in
        assert messages < 1000
        await bystander.settle()
        for _ in range(100):
            await client.read_reply()
        await until(lambda: server.counters.messages_in > messages + 50)


# Handshakes


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00", UPGRADE[:7]])
async def test_a_handshake_that_does_not_end_is_cut_off(context: ssl.SSLContext, sent: bytes) -> None:
    async with serving(tls=context, handshake_timeout_s=0.2) as server, raw(server.address) as client:
        await client.send(sent)
        await until(lambda: server._fronts or sent)
        await client.read_to_end()
        await until(lambda: not server._fronts)


async def test_plain_http_and_mysql_are_told_what_the_port_speaks(context: ssl.SSLContext) -> None:
    async with serving(tls=context, handshake_timeout_s=0.2) as server:
        async with raw(server.address) as client:
            await client.send(UPGRADE)
            status, _, text = await read_refusal(client)
            assert (status, "speaks TLS only" in text) == (400, True)
        async with raw(server.address) as client:
            assert b"no MySQL here" in await client.read_to_end()
        await until(lambda: not server._fronts)


async def test_a_stop_ends_who_is_told(context: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, raw(server.address) as client:
        await client.send(UPGRADE)
        await until(lambda: server._fronts)
        assert (await read_refusal(client))[0] == 400
        await server.stop()
        assert not server._fronts


async def test_plain_http_and_garbage_end_the_connection(
    context: ssl.SSLContext, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tls=context) as server:
        for garbage in (UPGRADE, b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 100):
            async with raw(server.address) as client:
                await client.send(garbage)
                await client.read_to_end()
        await until(lambda: not server._fronts)
        async with connected(server.address, tls=trusting) as good:
            await good.settle()
    assert {record.getMessage() for record in caplog.records} <= {"client connected", "connection ended"}


async def test_who_is_in_a_handshake_is_counted_and_the_oldest_makes_room(
    context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with serving(tls=context, max_handshakes=3) as server:
        silent = [await asyncio.open_connection(*server.address) for _ in range(3)]
        await until(lambda: len(server._fronts) == 3)
        async with connected(server.address, tls=trusting) as client:
            await client.settle()
            assert await silent[0][0].read() == b""
            assert server.counters.handshakes_dropped == 1
        for _, writer in silent:
            writer.close()


async def test_a_silent_client_inside_of_tls_is_cut_off(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context, handshake_timeout_s=0.2) as server, raw(server.address, trusting) as client:
        assert (await read_refusal(client))[0] == 408
        await until(lambda: not server._fronts)


async def test_a_stop_ends_handshakes(context: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, raw(server.address) as client:
        await until(lambda: server._fronts)
        await server.stop()
        assert await client.read_to_end() == b""
        assert not server._fronts


async def test_older_than_tls_1_2_is_refused(context: ssl.SSLContext, certificate: Certificate) -> None:
    old = certificate.client_context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    tls_1_2 = certificate.client_context()
    tls_1_2.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(tls=context) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*server.address, ssl=old)
        async with connected(server.address, tls=tls_1_2) as client:
            await client.settle()


async def test_a_plain_port_says_so_to_tls(trusting: ssl.SSLContext) -> None:
    async with serving() as server:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*server.address, ssl=trusting)


async def test_head_of_another_path_inside_of_tls(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context) as server, raw(server.address, trusting) as client:
        await client.send(request(path="/elsewhere"))
        assert (await read_refusal(client))[0] == 404


# Certificates that change


async def served_name(address: tuple[str, int]) -> str:
    """The certificate that a new client is shown, as PEM."""
    return await asyncio.to_thread(ssl.get_server_certificate, address)


async def test_a_new_certificate_is_for_new_handshakes(tmp_path: Path, certificate: Certificate) -> None:
    other = make_certificate(tmp_path, "other")
    used = Certificate(tmp_path / "used.crt", tmp_path / "used.key")
    for target, source in zip(used, certificate, strict=True):
        target.write_bytes(source.read_bytes())
    tls = Tls(*map(str, used))
    async with serving(tls=tls.context) as server, connected(server.address, tls=certificate.client_context()) as old:
        used.certificate.write_bytes(other.certificate.read_bytes())
        with pytest.raises(TlsError) as error:
            tls.reload()
        assert str(error.value) == f"cannot use {used.certificate} with {used.key}: key values mismatch"
        assert await served_name(server.address) == certificate.certificate.read_text()
        used.key.write_bytes(other.key.read_bytes())
        tls.reload()
        assert await served_name(server.address) == other.certificate.read_text()
        await old.settle()
        async with connected(server.address, tls=other.client_context()) as new:
            await new.settle()


def test_files_that_make_no_certificate(tmp_path: Path, certificate: Certificate) -> None:
    junk, locked = tmp_path / "junk.pem", make_certificate(tmp_path, "locked", "-passout", "pass:secret")
    junk.write_text("secret")
    for files, reason in [
        ((tmp_path / "none", certificate.key), f"cannot read {tmp_path}/none: No such file or directory"),
        ((certificate.certificate, tmp_path), f"cannot read {tmp_path}: Is a directory"),
        ((junk, certificate.key), f"cannot use {junk} with {certificate.key}: "),
        ((certificate.certificate, junk), f"cannot use {certificate.certificate} with {junk}: "),
        ((locked.certificate, locked.key), f"cannot use {locked.certificate} with {locked.key}: "),
    ]:
        with pytest.raises(TlsError) as error:
            Tls(*map(str, files))
        assert str(error.value).startswith(reason)
        assert "secret" not in str(error.value)
        assert len(str(error.value)) > len(reason) or not reason.endswith(" ")


async def test_a_reset_during_the_handshake(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with serving(tls=context) as server:
        for _ in range(20):
            with socket.create_connection(server.address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(b"\x16\x03\x01")
        async with connected(server.address, tls=trusting) as good:
            await good.settle()
        await until(lambda: not server._fronts)


def test_it_also_serves_on_the_plain_asyncio_loop(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def talk() -> None:
        async with serving(tls=context) as server, connected(server.address, tls=trusting) as client:
            await client.ask("CACHE SET 'a' ?", [b"x" * 1_000_000])
            assert await client.rows("CACHE GET 'a'") == [(b"x" * 1_000_000,)]
            await server.stop()
            assert (await client.closed())[0] == 1012

    with asyncio.Runner() as runner:
        runner.run(talk())
