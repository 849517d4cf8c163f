"""Authentication of MySQL clients against the users of all ports.

A client proves a password by `mysql_native_password`, which does not reveal it. Where the hash of a password is known
and not the password, the client has to send it, by `mysql_clear_password`; clients do so only when told to. One hash
among the users makes that the method of all: a method of each user would tell their names. Without users, any name and
password will do, as in CubeStore.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from hashlib import sha1

from mysql_mimic import auth

from cubequeue_server.access.credentials import Credentials, Verdict


class Identities(auth.IdentityProvider):  # type: ignore[misc]  # the library is untyped
    """The users of `credentials` for mysql-mimic."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._plugins = (_NativePassword(credentials), _ClearPassword(credentials))

    def get_plugins(self) -> Sequence[auth.AuthPlugin]:
        return self._plugins

    async def get_user(self, username: str) -> auth.User:
        """A user for any name: only its password is refused, so that a refusal does not reveal the names."""
        return auth.User(name=username, auth_plugin=self._plugins[self._credentials.has_hashes].name)


class _NativePassword(auth.NativePasswordAuthPlugin):  # type: ignore[misc]
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._decoy = os.urandom(16)  # for unknown names, whose check has to take as long

    def password_matches(self, user: auth.User, scramble: bytes, nonce: bytes) -> bool:
        if not self._credentials.are_demanded:
            return True
        password = self._credentials.password_of(user.name.encode())
        matches = hmac.compare_digest(_scramble(self._decoy if password is None else password, nonce), scramble)
        return matches and password is not None


class _ClearPassword(auth.AuthPlugin):  # type: ignore[misc]
    name = client_plugin_name = "mysql_clear_password"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def auth(self, auth_info: auth.AuthInfo | None = None) -> auth.AuthState:
        if auth_info is None:
            auth_info = yield b"\0"
        password = auth_info.data.partition(b"\0")[0]
        verdict = await self._credentials.verify(auth_info.username.encode(), password)
        yield auth.Success(auth_info.username) if verdict is Verdict.ADMITTED else auth.Forbidden()


def _scramble(password: bytes, nonce: bytes) -> bytes:
    """The proof of a password: SHA1(password) ^ SHA1(nonce + SHA1(SHA1(password))); empty for an empty password."""
    if not password:
        return b""
    once = sha1(password, usedforsecurity=False).digest()
    mask = sha1(nonce + sha1(once, usedforsecurity=False).digest(), usedforsecurity=False).digest()
    return bytes(left ^ right for left, right in zip(once, mask, strict=True))
