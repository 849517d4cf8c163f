"""The check that every listener shares."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import pytest

from cubequeue_server.access import credentials as auth
from cubequeue_server.access.credentials import Credentials, Verdict, basic_credentials
from cubequeue_server.access.passwords import ScryptHash, parse_secret
from tests.auth.test_passwords import RFC_7914
from tests.server.harness import until

HASH = parse_secret(RFC_7914)
USERS = {b"ann": b"secret", b"hash": HASH}


def at_once(credentials: Credentials, user: bytes, password: bytes) -> list[Verdict]:
    """The verdict, if it comes without waiting."""
    verdicts: list[Verdict] = []
    credentials.check(user, password, verdicts.append)
    return verdicts


def header(credentials: Credentials, authorization: bytes | None) -> Verdict:
    verdicts: list[Verdict] = []
    credentials.check_header(authorization, verdicts.append)
    (verdict,) = verdicts
    return verdict


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + b64encode(user + b":" + password)


def test_passwords_are_compared_exactly() -> None:
    credentials = Credentials({b"ann": b"secret", b"bob": b"other"})
    assert credentials.are_demanded
    assert at_once(credentials, b"ann", b"secret") == [Verdict.ADMITTED]
    for user, password in [
        (b"ann", b"other"),
        (b"ann", b""),
        (b"ann", b"secret "),
        (b"Ann", b"secret"),
        (b"", b""),
        (b"eve", b"secret"),
    ]:
        assert at_once(credentials, user, password) == [Verdict.REFUSED]


def test_without_users_anybody_may_ask_but_nonsense_is_refused() -> None:
    credentials = Credentials()
    assert not credentials.are_demanded
    assert header(credentials, None) is Verdict.ADMITTED
    assert header(credentials, basic(b"anybody", b"")) is Verdict.ADMITTED
    assert header(credentials, b"junk") is Verdict.REFUSED


def test_with_users_a_header_is_demanded() -> None:
    credentials = Credentials({b"ann": b"secret"})
    assert header(credentials, None) is Verdict.REFUSED
    assert header(credentials, b"") is Verdict.REFUSED
    assert header(credentials, b"Bearer secret") is Verdict.REFUSED
    assert header(credentials, basic(b"ann", b"wrong")) is Verdict.REFUSED
    assert header(credentials, basic(b"ann", b"secret")) is Verdict.ADMITTED


@pytest.mark.parametrize(
    ("value", "given"),
    [
        (basic(b"a", b"b:c"), (b"a", b"b:c")),
        (b"bAsIc  " + b64encode(b":") + b" ", (b"", b"")),
        (b"Basic " + b64encode(b"no colon"), None),
        (b"Basic !!!!", None),
        (b"Basic", None),
        (b"Digest " + b64encode(b"a:b"), None),
    ],
)
def test_the_header_is_read(value: bytes, given: tuple[bytes, bytes] | None) -> None:
    assert basic_credentials(value) == given


async def _remembered() -> None:
    credentials = Credentials(USERS)
    assert at_once(credentials, b"hash", b"password") == [], "the first time it is computed"
    assert await credentials.verify(b"hash", b"password") is Verdict.ADMITTED
    assert at_once(credentials, b"hash", b"password") == [Verdict.ADMITTED]
    assert await credentials.verify(b"hash", b"wrong") is Verdict.REFUSED
    assert at_once(credentials, b"hash", b"password") == [Verdict.ADMITTED]
    credentials.replace(USERS)
    assert at_once(credentials, b"hash", b"password") == [], "other users, maybe another hash"


def test_a_hash_is_computed_once_and_remembered() -> None:
    asyncio.run(_remembered())


async def _stranger() -> None:
    credentials = Credentials(USERS)
    assert at_once(credentials, b"eve", b"password") == []
    assert await credentials.verify(b"eve", b"password") is Verdict.REFUSED, "right for the hash, but of nobody"
    assert at_once(credentials, b"ann", b"secret") == [Verdict.ADMITTED]
    assert at_once(credentials, b"ann", b"password") == [], "the time does not tell ann from a stranger"
    assert await credentials.verify(b"ann", b"password") is Verdict.REFUSED, "right for somebody else's hash"
    assert at_once(credentials, b"ann", b"password") == [], "and not remembered"


def test_a_stranger_waits_as_long_as_a_user() -> None:
    asyncio.run(_stranger())


async def _flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_MAX_CHECKS", 3)
    credentials = Credentials(USERS)
    assert await credentials.verify(b"hash", b"password") is Verdict.ADMITTED
    verdicts: list[Verdict] = []
    for _ in range(5):
        credentials.check(b"hash", b"wrong", verdicts.append)
    assert verdicts == [Verdict.BUSY] * 2
    assert at_once(credentials, b"hash", b"password") == [Verdict.ADMITTED]
    await until(lambda: len(verdicts) == 5)
    assert verdicts[2:] == [Verdict.REFUSED] * 3
    assert await credentials.verify(b"hash", b"wrong") is Verdict.REFUSED, "there is room again"


def test_wrong_passwords_by_the_dozen_keep_nobody_out_who_was_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_flood(monkeypatch))


async def _cancelled() -> None:
    credentials = Credentials(USERS)
    verdicts: list[Verdict] = []
    for _ in range(20):
        credentials.check(b"hash", b"password", verdicts.append)
    started = asyncio.get_running_loop().time()
    credentials.close()
    await until(lambda: len(verdicts) == 20)
    assert asyncio.get_running_loop().time() - started < 1
    assert Verdict.REFUSED in verdicts
    assert at_once(credentials, b"hash", b"guess") == [Verdict.BUSY], "nothing is begun after the end"


def test_the_end_waits_for_no_checks() -> None:
    asyncio.run(_cancelled())


async def _reloaded_meanwhile() -> None:
    credentials = Credentials(USERS)
    verdicts: list[Verdict] = []
    credentials.check(b"hash", b"password", verdicts.append)
    credentials.check(b"hash", b"new", verdicts.append)
    credentials.replace({b"hash": b"new"})
    await until(lambda: len(verdicts) == 2)
    assert verdicts == [Verdict.REFUSED, Verdict.ADMITTED]


def test_a_reload_during_a_check_decides() -> None:
    asyncio.run(_reloaded_meanwhile())


def test_a_reload_takes_effect_at_once() -> None:
    credentials = Credentials({b"ann": b"old"})
    credentials.replace({b"ann": b"new"})
    assert at_once(credentials, b"ann", b"old") == [Verdict.REFUSED]
    assert at_once(credentials, b"ann", b"new") == [Verdict.ADMITTED]


def test_the_password_itself_is_there_for_challenges() -> None:
    credentials = Credentials(USERS)
    assert isinstance(HASH, ScryptHash)
    assert credentials.password_of(b"ann") == b"secret"
    assert credentials.password_of(b"hash") is None
    assert credentials.password_of(b"eve") is None
    assert Credentials().password_of(b"ann") is None
