"""TLS on the MySQL port (mysql.md): offered in the greeting, begun between two packets, and no way around it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.mysql import connection
from tests.server.harness import until
from tests.server.mysql_client import HEAD_FOR_TLS, LOGIN, OK, QUERY, error_of, mysql, offers_tls
from tests.server.test_mysql_port import ports


async def test_statements_small_and_large(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with ports(tls=context) as both, mysql(both.address, log_in=False) as client:
        assert (await client.log_in(trusting))[0] == OK
        value = "x" * 1_000_000
        assert await client.rows(f"CACHE SET 'k' '{value}'") == [b"\4true"]
        (row,) = await client.rows("CACHE GET 'k'")
        assert row[4:] == value.encode()


async def test_without_a_certificate_it_is_not_offered() -> None:
    async with ports() as both, mysql(both.address, log_in=False) as client:
        assert not offers_tls(await client.read())
        client.writer.write(client.packet(HEAD_FOR_TLS))
        assert await client.is_closed()


async def test_a_login_in_the_clear_is_refused_unread(context: ssl.SSLContext) -> None:
    credentials = Credentials({b"ann": b"s3cret"})
    async with ports(tls=context, credentials=credentials) as both, mysql(both.address, log_in=False) as client:
        code, text = error_of([await client.log_in()])
        assert (code, text) == (3159, "this port speaks TLS only: the client has to ask for it")
        assert await client.is_closed()
        assert credentials.refused == 0, "nobody looked at the password"


class _Handshake:
    """A client's side of TLS in memory: its bytes go where the test wants them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.to_send, server_hostname="127.0.0.1")

    def step(self) -> bytes:
        """What is to be sent after all that was received."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.to_send.read()


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_a_client_need_not_wait_between_its_wish_and_its_hello(
    piece: int, context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Both may come in one read, and any cut in between."""
    async with ports(tls=context) as both, mysql(both.address, log_in=False) as client:
        await client.read()
        handshake = _Handshake(trusting)
        sent = client.packet(HEAD_FOR_TLS) + handshake.step()
        for start in range(0, len(sent), piece):
            client.writer.write(sent[start : start + piece])
            await asyncio.sleep(0)
        while handshake.tls.version() is None or handshake.to_send.pending:
            handshake.received.write(await client.reader.read(65_536))
            client.writer.write(handshake.step())
        handshake.tls.write(client.packet(HEAD_FOR_TLS + LOGIN))
        client.writer.write(handshake.to_send.read())
        answer = b""
        while not answer:
            handshake.received.write(await client.reader.read(65_536))
            try:
                answer = handshake.tls.read(100)
            except ssl.SSLWantReadError:
                continue
        assert answer[4] == OK


async def test_what_was_said_before_tls_is_not_taken_for_said_inside(
    context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Somebody in between may put a login or a command behind the wish for TLS."""
    async with ports(tls=context) as both, mysql(both.address, log_in=False) as client:
        await client.read()
        client.writer.write(client.packet(HEAD_FOR_TLS) + client.packet(HEAD_FOR_TLS + LOGIN))
        with pytest.raises((ssl.SSLError, OSError)):
            await client.writer.start_tls(trusting)


async def test_who_never_says_hello_is_dropped(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HANDSHAKE_TIMEOUT_S", 0.2)
    async with ports(tls=context) as both, mysql(both.address, log_in=False) as client:
        await client.read()
        client.writer.write(client.packet(HEAD_FOR_TLS))
        assert await client.is_closed()


async def test_a_stop_in_the_middle_of_a_handshake(context: ssl.SSLContext) -> None:
    async with ports(tls=context) as both, mysql(both.address, log_in=False) as client:
        await client.read()
        client.writer.write(client.packet(HEAD_FOR_TLS))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(both.port.stop(), 5)
        assert await client.is_closed()


async def test_a_client_that_leaves_while_it_waits_frees_its_place(
    context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with ports(tls=context) as both:
        async with mysql(both.address, log_in=False) as client:
            assert (await client.log_in(trusting))[0] == OK
            client.command(QUERY, b"QUEUE RESULT_BLOCKING 3600000 1")
            await until(lambda: both.server.in_flight)
        await until(lambda: not both.connections)
        assert both.server.in_flight == 0


def test_it_also_serves_on_the_plain_asyncio_loop(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def talk() -> None:
        for tls in (None, trusting):
            port_tls = context if tls else None
            async with ports(tls=port_tls) as both, mysql(both.address, log_in=False) as client:
                assert (await client.log_in(tls))[0] == OK
                assert await client.rows("CACHE SET 'k' 'v'") == [b"\4true"]

    with asyncio.Runner() as runner:
        runner.run(talk())
