"""Who a MySQL client is: the users of all ports, by the exchange that suits how their password is kept.

A password that is known proves itself by `mysql_native_password`, which does not show it. Where only its hash is known
the client has to send it, by `mysql_clear_password`, which clients do only when told to. Without users anybody is
welcome with any password, as in CubeStore.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha1

from mysql_mimic.auth import (
    AuthInfo,
    AuthPlugin,
    AuthState,
    Forbidden,
    IdentityProvider,
    NativePasswordAuthPlugin,
    Success,
    User,
)

from cubequeue_server.access.credentials import Credentials, Verdict


class Identities(IdentityProvider):  # type: ignore[misc]  # the library is untyped
    """The users of `credentials` for mysql-mimic."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._plugins = (_NativePassword(credentials), _ClearPassword(credentials))

    def get_plugins(self) -> Sequence[AuthPlugin]:
        return self._plugins

    async def get_user(self, username: str) -> User:
        """Somebody, for any name: a refusal comes from the password, so that it does not tell the names."""
        must_be_shown = self._credentials.has_hashes and self._credentials.password_of(username.encode()) is None
        return User(name=username, auth_plugin=self._plugins[must_be_shown].name)


class _NativePassword(NativePasswordAuthPlugin):  # type: ignore[misc]
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def password_matches(self, user: User, scramble: bytes, nonce: bytes) -> bool:
        if not self._credentials.are_demanded:
            return True
        password = self._credentials.password_of(user.name.encode())
        matches = hmac.compare_digest(_scramble(password or b"", nonce), scramble)
        return matches and password is not None


class _ClearPassword(AuthPlugin):  # type: ignore[misc]
    name = client_plugin_name = "mysql_clear_password"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def auth(self, auth_info: AuthInfo | None = None) -> AuthState:
        if auth_info is None:
            auth_info = yield b"\0"
        password = auth_info.data.partition(b"\0")[0]
        verdict = await self._credentials.verify(auth_info.username.encode(), password)
        yield Success(auth_info.username) if verdict is Verdict.ADMITTED else Forbidden()


def _scramble(password: bytes, nonce: bytes) -> bytes:
    """What a client sends that knows the password: SHA1(password) ^ SHA1(nonce + SHA1(SHA1(password)))."""
    if not password:
        return b""
    once = sha1(password, usedforsecurity=False).digest()
    mask = sha1(nonce + sha1(once, usedforsecurity=False).digest(), usedforsecurity=False).digest()
    return bytes(left ^ right for left, right in zip(once, mask, strict=True))
