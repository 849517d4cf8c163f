"""Hashes of passwords, and the file of users."""

from __future__ import annotations

import pytest

from cubequeue_server.access.passwords import ScryptHash, UsersError, hash_password, parse_secret, parse_users

# RFC 7914, section 12, third vector: N = 1024, r = 8, p = 16, "password" and "NaCl".
RFC_7914 = (
    b"$scrypt$ln=10,r=8,p=16$TmFDbA$"
    b"/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
)


def test_the_vector_of_the_rfc() -> None:
    secret = parse_secret(RFC_7914)
    assert isinstance(secret, ScryptHash)
    assert secret.matches(b"password")
    assert not secret.matches(b"passwore")
    assert str(secret) == RFC_7914.decode()


def test_a_new_hash_is_read_again_and_never_the_same() -> None:
    first, second = hash_password(b"p"), hash_password(b"p")
    assert parse_secret(str(first).encode()) == first != second
    assert first.matches(b"p")
    assert "salt" not in repr(first)
    assert "key" not in repr(first)


@pytest.mark.parametrize(
    "text",
    [
        b"$scrypt$",
        b"$scrypt$ln=14,r=8,p=1$TmFDbA",
        b"$scrypt$ln=14,r=8,p=1$TmFDbA$short",
        b"$scrypt$ln=14,r=8,p=1$T$" + b"A" * 43,
        b"$scrypt$ln=20,r=8,p=1$TmFDbA$" + b"A" * 43,
        b"$scrypt$ln=0,r=8,p=1$TmFDbA$" + b"A" * 43,
        b"$scrypt$ln=10,r=0,p=1$TmFDbA$" + b"A" * 43,
        b"$scrypt$ln=10,r=8,p=0$TmFDbA$" + b"A" * 43,
        b"$scrypt$ln=10,r=8,p=17$TmFDbA$" + b"A" * 43,
        RFC_7914 + b" ",
    ],
)
def test_hashes_that_cannot_be_used(text: bytes) -> None:
    with pytest.raises(ValueError, match="hash"):
        parse_secret(text)


def test_a_file_of_users() -> None:
    content = b"\xef\xbb\xbf# who may ask\r\nann:pass:word \n\n  \nb\xc3\xa4r:\xff\nhash:" + RFC_7914 + b"\r\nlast:x"
    assert parse_users(content) == {
        b"ann": b"pass:word ",
        "bär".encode(): b"\xff",
        b"hash": parse_secret(RFC_7914),
        b"last": b"x",
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no user stands in it"),
        (b"\n# ann:secret\n", "no user stands in it"),
        (b"ann:secret\nsecret\n", "line 2: not user:password"),
        (b":secret\n", "line 1: not user:password"),
        (b"ann:\n", "line 1: not user:password"),
        (b"ann:1\nann:secret\n", "line 2: this user stands further up already"),
        (b"ann:$scrypt$secret\n", "line 1: not a hash of the form $scrypt$ln=14,r=8,p=5$salt$key"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, text: str) -> None:
    with pytest.raises(UsersError) as error:
        parse_users(content)
    assert str(error.value) == text
