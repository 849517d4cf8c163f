"""Passwords in plain text and as scrypt hashes in PHC form, and the file of users.

A hash reads `$scrypt$ln=14,r=8,p=5$salt$key`, salt and key in base64 without padding. scrypt is the strongest function
of the standard library: it costs memory, which makes guessing on graphics cards slow.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_FILE_BYTES: Final = 1024 * 1024

_LOG_N, _R, _P = 14, 8, 5  # 16 MiB and some 0.2 s: as strong as the usual 128 MiB in one go
_KEY_BYTES, _SALT_BYTES = 32, 16
_MAX_MEMORY_BYTES: Final = 64 * 1024 * 1024
_MAX_SCRYPT: Final = 2 * _MAX_MEMORY_BYTES  # OpenSSL counts a little more
_MAX_P: Final = 16
_PHC = re.compile(rb"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


class UsersError(Exception):
    """An unusable file of users; the text names the line, without its content."""


@dataclass(slots=True, frozen=True)
class ScryptHash:
    """The hash of a password."""

    log_n: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    def matches(self, password: bytes) -> bool:
        """Whether `password` has this hash, compared in constant time. Slow on purpose; releases the GIL."""
        key = hashlib.scrypt(
            password, salt=self.salt, n=1 << self.log_n, r=self.r, p=self.p, maxmem=_MAX_SCRYPT, dklen=len(self.key)
        )
        return hmac.compare_digest(key, self.key)

    def __str__(self) -> str:
        salt, key = (b64encode(part).rstrip(b"=").decode() for part in (self.salt, self.key))
        return f"$scrypt$ln={self.log_n},r={self.r},p={self.p}${salt}${key}"


Secret = bytes | ScryptHash
Users = Mapping[bytes, Secret]


def hash_password(password: bytes) -> ScryptHash:
    """A hash with a new salt, for the file of users."""
    salt = os.urandom(_SALT_BYTES)
    key = hashlib.scrypt(password, salt=salt, n=1 << _LOG_N, r=_R, p=_P, maxmem=_MAX_SCRYPT, dklen=_KEY_BYTES)
    return ScryptHash(_LOG_N, _R, _P, salt, key)


def parse_secret(text: bytes) -> Secret:
    """A password or a hash in the form of the file. Raises ValueError for an unusable hash."""
    if not text.startswith(b"$scrypt$"):
        return text
    match = _PHC.fullmatch(text)
    if match is None:
        raise ValueError("not a hash of the form $scrypt$ln=14,r=8,p=5$salt$key")
    log_n, r, p = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= log_n <= 30 and r and 1 <= p <= _MAX_P and 128 * r << log_n <= _MAX_MEMORY_BYTES):
        raise ValueError(f"a hash of p over {_MAX_P} or of more than {_MAX_MEMORY_BYTES >> 20} MiB (128 * r * 2^ln)")
    salt, key = _from_base64(match[4]), _from_base64(match[5])
    if len(key) < 16:
        raise ValueError("a hash of less than 16 bytes")
    return ScryptHash(log_n, r, p, salt, key)


def _from_base64(text: bytes) -> bytes:
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("a hash whose base64 cannot be read") from None


def parse_users(content: bytes) -> dict[bytes, Secret]:
    """The users of a file with lines of `user:password` or `user:hash`; the first colon ends the name.

    Empty lines and lines that begin with `#` are skipped. Raises UsersError, also for a file without users.
    """
    users: dict[bytes, Secret] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        text = line.removesuffix(b"\r")
        if not text.strip() or text.startswith(b"#"):
            continue
        user, colon, rest = text.partition(b":")
        if not (colon and user and rest):
            raise UsersError(f"line {number}: not user:password")
        if user in users:
            raise UsersError(f"line {number}: this user stands further up already")
        try:
            users[user] = parse_secret(rest)
        except ValueError as error:
            raise UsersError(f"line {number}: {error}") from None
    if not users:
        raise UsersError("no user stands in it")
    return users
