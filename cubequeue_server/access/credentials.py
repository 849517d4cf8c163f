"""Who may ask: Basic credentials against the configured users (wire.md §1, "Auth rules").

All listeners share one `Credentials`, so that one reload changes what all of them accept.
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

# Hashes that wait to be computed, one after the other; who comes on top is told to come again.
_MAX_CHECKS: Final = 64

_log = logging.getLogger(__name__)


class Verdict(Enum):
    """What became of a check."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    BUSY = "busy"  # not checked: too many checks are waiting


OnVerdict = Callable[[Verdict], None]
OnRemoved = Callable[[frozenset[bytes]], None]


class Credentials:
    """The users and their secrets. With None anybody may ask, as in the open build of CubeStore.

    Comparisons take the same time whatever is wrong. A password is compared at once; the hash of one is computed in a
    thread, one at a time, and after its first success the password is remembered in a form that is quick to compare:
    wrong passwords by the thousand delay neither requests nor clients that were here before.
    """

    def __init__(self, users: Users | None = None) -> None:
        self._digest_key = os.urandom(32)
        self._nobody = os.urandom(32)
        self._checks = 0
        self._is_closed = False
        self._executor: ThreadPoolExecutor | None = None
        self.refused = 0  # connections, since the start
        self._users: Users | None = None
        self._on_removed: list[OnRemoved] = []
        self.replace(users)

    def when_removed(self, tell: OnRemoved) -> None:
        """Have `tell` called with the names of users that are no longer there, to end their connections."""
        self._on_removed.append(tell)

    def replace(self, users: Users | None) -> None:
        """Take other users from now on. Who is connected stays if its name does, whatever became of the password."""
        removed = frozenset(self._users or ()) - frozenset(users or ())
        self._users = users
        self._proved: dict[bytes, bytes] = {}
        self._decoy: ScryptHash | None = None
        hashes = [secret for secret in (users or {}).values() if isinstance(secret, ScryptHash)]
        # A stranger must wait as long as a user does, or the time tells the names.
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
        """Whether of some user only the hash of the password is known."""
        return self._decoy is not None

    def password_of(self, user: bytes) -> bytes | None:
        """A user's password, for challenges that need it itself; None where only a hash is known, or no such user."""
        secret = None if self._users is None else self._users.get(user)
        return secret if isinstance(secret, bytes) else None

    def check(self, user: bytes, password: bytes, on_verdict: OnVerdict) -> None:
        """Tell `on_verdict`, at once or later on the running loop, whether these are good."""
        if self._users is None:
            on_verdict(Verdict.ADMITTED)
            return
        secret = self._users.get(user)
        expected = self._proved.get(user) if isinstance(secret, ScryptHash) else secret and self._digest(secret)
        if hmac.compare_digest(self._digest(password), expected or self._nobody):
            on_verdict(Verdict.ADMITTED)
            return
        # Whose password is known in the clear waits as a stranger does, or the time would tell of the name.
        slow = secret if isinstance(secret, ScryptHash) else self._decoy
        if slow is None:
            on_verdict(Verdict.REFUSED)
        elif self._checks >= _MAX_CHECKS or self._is_closed:
            on_verdict(Verdict.BUSY)
        else:
            self._check_in_thread(slow, user, password, on_verdict)

    async def verify(self, user: bytes, password: bytes) -> Verdict:
        """The same to wait for."""
        verdict = asyncio.get_running_loop().create_future()
        self.check(user, password, lambda each: None if verdict.done() else verdict.set_result(each))
        answer: Verdict = await verdict
        return answer

    def check_header(self, authorization: bytes | None, on_verdict: OnVerdict) -> None:
        """The same for the value of an `Authorization` header, None when there is none.

        One that cannot be read is refused even where no credentials are demanded.
        """
        given = None if authorization is None else basic_credentials(authorization)
        if given is not None:
            self.check(*given, on_verdict)
        elif authorization is None and not self.are_demanded:
            on_verdict(Verdict.ADMITTED)
        else:
            on_verdict(Verdict.REFUSED)

    def count_refusal(self, peer: object) -> None:
        """Say in the log, now and then, that a connection of the address `peer` was refused."""
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a log is no place to flood
            _log.warning("credentials were missing or wrong, refused no. %d: from %s", self.refused, peer)

    def close(self) -> None:
        """Forget what waits to be checked; for the end of the process."""
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
        if users is not self._users:  # a reload came between
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
