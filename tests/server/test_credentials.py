"""Credentials at the upgrade and at uploads (wire.md §1, "Auth rules")."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import Callable
from functools import partial

import pytest

from cubequeue_server.access import credentials as auth
from cubequeue_server.access.credentials import Credentials, Verdict
from cubequeue_server.access.passwords import parse_secret
from protocol.client_codec import Rows, encode_query
from tests.auth.test_passwords import RFC_7914
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import WatchedStore, serving, until
from tests.server.test_handshake import read_refusal, refused, request


def credentials() -> Credentials:
    return Credentials({b"ann": b"secret", b"bob": b"other"})


def hashed() -> Credentials:
    """`hash` has the password `password`."""
    return Credentials({b"hash": parse_secret(RFC_7914)})


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


WRONG = [None, "", "junk", basic("ann", "other"), basic("ann", ""), basic("eve", "secret"), "Bearer secret"]


@pytest.mark.parametrize("authorization", WRONG)
@pytest.mark.parametrize(("method", "path"), [("GET", "/ws"), ("POST", "/upload-temp-file?name=t"), ("GET", "/x")])
async def test_wrong_ones_are_refused(method: str, path: str, authorization: str | None) -> None:
    async with serving(credentials=credentials()) as server:
        answer = await refused(server.address, request(method, path, {"Authorization": authorization}))
        assert answer[0] == 403
        assert answer[2] == "Not authorized"
        assert server.counters.connections_accepted == 0


async def test_the_body_of_a_refusal_is_exactly_this() -> None:
    async with serving(credentials=credentials()) as server, raw(server.address) as client:
        await client.send(request())
        head, _, body = (await client.read_to_end()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"Content-Type: application/json" in head
        assert body == b'{"error": "Not authorized"}'


async def test_a_process_id_that_is_too_long_comes_first() -> None:
    async with serving(credentials=credentials()) as server:
        answer = await refused(server.address, request(changes={"x-process-id": "x" * 65}))
        assert answer[0] == 400


async def test_right_ones_are_let_in_and_name_the_user() -> None:
    store = WatchedStore()
    async with (
        serving(store, credentials=credentials()) as server,
        connected(server.address, authorization=basic("ann", "secret")) as client,
    ):
        await client.ask("CACHE INCR 'a'")
        assert store.keys[0] is not None
        assert store.keys[0][0] == b"ann"
        upload = request("POST", "/upload-temp-file", {"Authorization": basic("bob", "other")})
        assert (await refused(server.address, upload))[0] == 405


async def test_two_users_with_the_same_message_do_not_share_its_answer() -> None:
    async with (
        serving(credentials=credentials()) as server,
        connected(server.address, "same", authorization=basic("ann", "secret")) as ann,
        connected(server.address, "same", authorization=basic("bob", "other")) as bob,
    ):
        assert await ann.ask("CACHE INCR 'a'") == Rows(1, ("value",), [(b"1",)])
        assert await bob.ask("CACHE INCR 'a'") == Rows(1, ("value",), [(b"2",)])


async def test_the_cap_is_that_of_the_proved_user() -> None:
    async with (
        serving(credentials=credentials(), max_connections_per_user=1) as server,
        connected(server.address, authorization=basic("ann", "secret")) as first,
        connected(server.address, authorization=basic("bob", "other")) as bob,
    ):
        assert (await refused(server.address, request(changes={"Authorization": basic("ann", "guess")})))[0] == 403
        await first.settle()
        async with connected(server.address, authorization=basic("ann", "secret")) as second:
            assert (await first.closed())[0] == 1013
            await second.settle()
            await bob.settle()


async def test_refusals_are_counted_and_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    shared = credentials()
    async with serving(credentials=shared) as server:
        for _ in range(5):
            await refused(server.address, request(changes={"Authorization": basic("needle", "needle")}))
    assert shared.refused == 5
    assert len(caplog.records) == 3
    assert all(vars(record)["fields"]["peer"].startswith("127.0.0.1:") for record in caplog.records)
    assert "needle" not in caplog.text + repr([vars(record) for record in caplog.records])


async def test_missing_credentials_are_told_apart_from_wrong_ones(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(credentials=credentials()) as server:
        await refused(server.address, request(changes={"Authorization": basic("ann", "wrong")}))
        await refused(server.address, request())
    wrong, missing = caplog.messages
    assert "wrong user or password" in wrong
    assert "without credentials" in missing
    assert "CUBEJS_CUBESTORE_HOST" in missing


# Hashes, whose verdict comes later


@pytest.mark.parametrize("step", [7, 10_000])
async def test_what_follows_the_head_waits_for_the_verdict(step: int) -> None:
    stream = request(changes={"Authorization": basic("hash", "password")}) + frame(
        BINARY, encode_query(7, "CACHE GET 'a'")
    )
    async with serving(credentials=hashed()) as server:
        for _ in range(2):  # computed, then remembered
            async with raw(server.address) as client:
                for start in range(0, len(stream), step):
                    await client.send(stream[start : start + step])
                    await asyncio.sleep(0)
                assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
                assert await client.read_reply() == Rows(7, ("value",), [(None,)])


async def test_a_wrong_password_for_a_hash() -> None:
    async with serving(credentials=hashed()) as server:
        for user in ("hash", "eve"):
            answer = await refused(server.address, request(changes={"Authorization": basic(user, "guess")}))
            assert answer[::2] == (403, "Not authorized")


async def test_others_are_served_while_a_password_is_checked() -> None:
    async with (
        serving(credentials=hashed()) as server,
        connected(server.address, authorization=basic("hash", "password")) as client,
        raw(server.address) as guesser,
    ):
        guesses = [request(changes={"Authorization": basic("hash", str(number))}) for number in range(10)]
        checks = [asyncio.create_task(refused(server.address, guess)) for guess in guesses]
        await guesser.send(request(changes={"Authorization": basic("hash", "guess")}))
        rounds = 0
        while not all(check.done() for check in checks):
            await client.settle()
            rounds += 1
        assert rounds > 10
        assert (await read_refusal(guesser))[0] == 403


async def test_too_many_guesses_at_once_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_MAX_CHECKS", 1)
    async with serving(credentials=hashed()) as server, raw(server.address) as first:
        guess = request(changes={"Authorization": basic("hash", "guess")})
        await first.send(guess)
        await until(lambda: server._credentials._checks)
        assert (await refused(server.address, guess))[0] == 503
        assert (await read_refusal(first))[0] == 403


async def test_a_client_that_leaves_during_the_check_leaves_nothing() -> None:
    async with serving(credentials=hashed(), handshake_timeout_s=0.5) as server:
        async with raw(server.address) as client:
            await client.send(request(changes={"Authorization": basic("hash", "password")}))
            await until(lambda: server._credentials._checks)
        await until(lambda: not server._fronts and not server.counters.connections)
        await until(lambda: not server._credentials._checks)


class HeldCredentials(Credentials):
    """Whose checks end when the test says so."""

    def check(self, user: bytes, password: bytes, on_verdict: Callable[[Verdict], None]) -> None:
        self.go_on = partial(super().check, user, password, on_verdict)


async def test_a_timeout_during_the_check() -> None:
    slow = HeldCredentials({b"hash": parse_secret(RFC_7914.replace(b"p=16", b"p=8"))})
    async with serving(credentials=slow, handshake_timeout_s=2) as server, raw(server.address) as client:
        await client.send(request(changes={"Authorization": basic("hash", "password")}))
        assert (await read_refusal(client))[0] == 408
        slow.go_on()
        await until(lambda: not server._credentials._checks)
        await until(lambda: not server._fronts)


# Users that are removed


async def test_the_connections_of_removed_users_are_closed_and_no_others() -> None:
    known = credentials()
    async with serving(credentials=known) as server:
        ann, bob = (basic("ann", "secret"), basic("bob", "other"))
        async with (
            connected(server.address, "a", Authorization=ann) as first,
            connected(server.address, "b", Authorization=ann) as second,
            connected(server.address, "c", Authorization=bob) as other,
        ):
            waiting = await first.send("QUEUE RESULT_BLOCKING 60000 5")
            await first.settle()
            known.replace({b"bob": b"changed"})
            assert await first.closed() == (1008, "this user was removed")
            assert await second.closed() == (1008, "this user was removed")
            assert not first.replies[waiting]
            await other.settle()
            assert server.counters.connections_removed == 2
        answer = await refused(server.address, request(changes={"Authorization": ann}))
        assert answer[0] == 403


async def test_many_connections_of_a_removed_user_are_closed_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubequeue_server.server._CLOSED_AT_ONCE", 2)
    known = credentials()
    async with serving(credentials=known) as server:
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connected(server.address, str(i), Authorization=basic("ann", "secret")))
                for i in range(7)
            ]
            known.replace({b"bob": b"other"})
            assert server.counters.connections_removed == 2
            for client in clients:
                assert (await client.closed())[0] == 1008
        assert server.counters.connections_removed == 7
