"""Checks Basic credentials against the configured users (wire.md §1, "Auth rules").

All listeners share one `Credentials`: one reload is for all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Final

from cubequeue_server.access.passwords import ScryptHash, Users
from cubequeue_server.observe.logs import log_event

# Hashes that wait to be computed, one after the other. One check more gets the verdict BUSY.
_MAX_CHECKS: Final = 64

_log = logging.getLogger(__name__)

_WITHOUT: Final = (
    "a client without credentials was refused: user and password have to be in CUBEJS_CUBESTORE_HOST"
    " (cube:the-password@host)"
)
_WRONG: Final = "a client with a wrong user or password was refused"


class Verdict(Enum):
    """The outcome of a check."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    BUSY = "busy"  # not checked: too many checks are waiting


OnVerdict = Callable[[Verdict], None]
OnRemoved = Callable[[frozenset[bytes]], None]


class Credentials:
    """The users and their secrets. With None everyone is admitted, as in the open build of CubeStore.

    A comparison takes the same time for every wrong name or password. A password is compared at once. A hash is
    computed in a thread, one at a time, and a password that has matched is remembered in a form that is quick to
    compare: thousands of wrong passwords delay neither requests nor clients that were admitted before.
    """

    def __init__(self, users: Users | None = None) -> None:
        self._digest_key = os.urandom(32)
        self._nobody = os.urandom(32)
        self._checks = 0
        self._is_closed = False
        self._executor: ThreadPoolExecutor | None = None
        self.refused = 0  # connections since the start
        self._came_without = 0  # those of them that gave no credentials
        self._users: Users | None = None
        self._on_removed: list[OnRemoved] = []
        self.replace(users)

    def when_removed(self, tell: OnRemoved) -> None:
        """Call `tell` with the names of removed users, to end their connections."""
        self._on_removed.append(tell)

    def replace(self, users: Users | None) -> None:
        """Replace all users. Clients of a user that stays keep their connections, even if the password is another."""
        removed = frozenset(self._users or ()) - frozenset(users or ())
        self._users = users
        self._proved: dict[bytes, bytes] = {}
        self._decoy: ScryptHash | None = None
        hashes = [secret for secret in (users or {}).values() if isinstance(secret, ScryptHash)]
        # An unknown name must take as long as that of a user, or the time would give the names away.
        self._decoy = max(hashes, key=lambda each: (each.p << each.log_n) * each.r, default=None)
        if removed:
            for tell in self._on_removed:
                tell(removed)

    @property
    def are_demanded(self) -> bool:
        """Whether a client needs credentials."""
        return self._users is not None

    @property
    def has_hashes(self) -> bool:
        """Whether some user has only the hash of a password."""
        return self._decoy is not None

    def password_of(self, user: bytes) -> bytes | None:
        """A user's password, for challenges that need it; None for an unknown user or one with a hash."""
        secret = None if self._users is None else self._users.get(user)
        return secret if isinstance(secret, bytes) else None

    def check(self, user: bytes, password: bytes, on_verdict: OnVerdict) -> None:
        """Call `on_verdict`, at once or later on the running loop."""
        if self._users is None:
            on_verdict(Verdict.ADMITTED)
            return
        secret = self._users.get(user)
        expected = self._proved.get(user) if isinstance(secret, ScryptHash) else secret and self._digest(secret)
        if hmac.compare_digest(self._digest(password), expected or self._nobody):
            on_verdict(Verdict.ADMITTED)
            return
        # A wrong password of a user without a hash takes as long as an unknown name, for the same reason.
        slow = secret if isinstance(secret, ScryptHash) else self._decoy
        if slow is None:
            on_verdict(Verdict.REFUSED)
        elif self._checks >= _MAX_CHECKS or self._is_closed:
            on_verdict(Verdict.BUSY)
        else:
            self._check_in_thread(slow, user, password, on_verdict)

    async def verify(self, user: bytes, password: bytes) -> Verdict:
        """The same for coroutines."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.check(user, password, lambda each: None if verdict.done() else verdict.set_result(each))
        return await verdict

    def check_header(self, authorization: bytes | None, on_verdict: OnVerdict) -> None:
        """The same for an `Authorization` header, None without one. An unreadable header is always refused."""
        given = None if authorization is None else basic_credentials(authorization)
        if given is not None:
            self.check(*given, on_verdict)
        elif authorization is None and not self.are_demanded:
            on_verdict(Verdict.ADMITTED)
        else:
            on_verdict(Verdict.REFUSED)

    def count_refusal(self, peer: str, *, with_credentials: bool) -> None:
        """Count a refused connection; the 1st, 2nd, 4th, 8th … without and with credentials is logged.

        `peer` is its address. The name that it gave is not logged: people type passwords there.
        """
        self.refused += 1
        if not with_credentials:
            self._came_without += 1
            count, what = self._came_without, _WITHOUT
        else:
            count, what = self.refused - self._came_without, _WRONG
        if count & (count - 1) == 0:
            log_event(_log, logging.WARNING, what, {"number": count, "peer": peer})

    def close(self) -> None:
        """Drop all waiting checks, at the end of the process."""
        self._is_closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _digest(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._digest_key, digest_size=32).digest()

    def _check_in_thread(self, secret: ScryptHash, user: bytes, password: bytes, on_verdict: OnVerdict) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._checks += 1
        check = asyncio.get_running_loop().run_in_executor(self._executor, secret.matches, password)
        check.add_done_callback(partial(self._on_checked, self._users, user, password, on_verdict))

    def _on_checked(
        self, users: Users | None, user: bytes, password: bytes, on_verdict: OnVerdict, check: asyncio.Future[bool]
    ) -> None:
        self._checks -= 1
        if users is not self._users:  # a reload came in between
            self.check(user, password, on_verdict)
            return
        is_match = not check.cancelled() and check.exception() is None and check.result()
        if is_match and users is not None and isinstance(users.get(user), ScryptHash):  # else it was the decoy's
            self._proved[user] = self._digest(password)
            on_verdict(Verdict.ADMITTED)
        else:
            on_verdict(Verdict.REFUSED)


def basic_credentials(authorization: bytes) -> tuple[bytes, bytes] | None:
    """User and password of a Basic `Authorization`; None when it cannot be read."""
    scheme, _, encoded = authorization.partition(b" ")
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if scheme.lower() == b"basic" and colon else None
