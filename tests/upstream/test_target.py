"""What a start makes of the settings of a CubeStore behind: credentials, TLS, and what it refuses or warns of."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from cubequeue_server.engines.upstream.target import make_target, version_of, warnings_of
from cubequeue_server.settings.upstream import TargetError, UpstreamSettings
from cubequeue_server.settings.values import UpstreamAddress
from tests.certificates import Certificate

ADDRESS = UpstreamAddress(False, "cubestore", 3030)
WITH_CREDENTIALS = UpstreamAddress(False, "cubestore", 3030, "cube", "s3cret")


def basic(user: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def test_credentials_of_the_url() -> None:
    assert make_target(UpstreamSettings(WITH_CREDENTIALS), has_own_users=True).authorization == basic("cube", "s3cret")


@pytest.mark.parametrize("content", ["pässwort", "pässwort\n", "pässwort\r\n"])
def test_credentials_of_a_file(content: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    target = make_target(UpstreamSettings(ADDRESS, "bob", str(file)), has_own_users=False)
    assert target.authorization == basic("bob", "pässwort")
    assert "pässwort" not in repr(target)


def test_a_clients_credentials_go_up_where_there_are_no_others_and_no_users_here() -> None:
    def headers(address: UpstreamAddress, *, has_own_users: bool) -> dict[bytes, bytes]:
        target = make_target(UpstreamSettings(address), has_own_users=has_own_users)
        return dict(target.headers(b"process", b"Bearer odd"))

    assert headers(ADDRESS, has_own_users=False) == {b"x-process-id": b"process", b"Authorization": b"Bearer odd"}
    assert headers(ADDRESS, has_own_users=True) == {b"x-process-id": b"process"}
    assert headers(WITH_CREDENTIALS, has_own_users=False)[b"Authorization"] == basic("cube", "s3cret")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"address": WITH_CREDENTIALS, "user": "bob", "password_file": "/x"}, "names credentials"),
    ({"user": "bob"}, "one is set, the other is not"),
    ({"password_file": "/x"}, "one is set, the other is not"),
    ({"user": "bob", "password_file": "/no/such/file"}, "cannot be read: No such file"),
    ({"user": "bob", "password_file": "/dev/null"}, "it is empty"),
    ({"user": "bob", "password_file": "/dev/zero"}, "it is too large"),
    ({"tls_ca": "/x"}, "is not wss://"),
    ({"address": ADDRESS.__class__(True, "h", 1), "tls_ca": "/no/such/file"}, "cannot be read: No such file"),
    ({"address": ADDRESS.__class__(True, "h", 1), "tls_ca": __file__}, "no certificates in PEM form"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_cannot_be_used_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(TargetError, match=text) as refused:
        make_target(UpstreamSettings(**{"address": ADDRESS, **settings}), has_own_users=False)
    assert "s3cret" not in str(refused.value)


def test_an_authority_of_ones_own(certificate: Certificate) -> None:
    settings = UpstreamSettings(UpstreamAddress(True, "localhost", 1), tls_ca=str(certificate.certificate))
    target = make_target(settings, has_own_users=False)
    assert target.tls is not None
    assert len(target.tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("address", "warns"),
    [
        (WITH_CREDENTIALS, True),
        (ADDRESS, False),
        (UpstreamAddress(True, "cubestore", 1, "cube", "s3cret"), False),
        (UpstreamAddress(False, "localhost", 1, "cube", "s3cret"), False),
        (UpstreamAddress(False, "127.0.0.1", 1, "cube", "s3cret"), False),
        (UpstreamAddress(False, "::1", 1, "cube", "s3cret"), False),
        (UpstreamAddress(False, "localhost.example.com", 1, "cube", "s3cret"), True),
    ],
)
def test_credentials_in_the_clear_are_warned_of(address: UpstreamAddress, warns: bool) -> None:
    warnings = [*warnings_of(make_target(UpstreamSettings(address), has_own_users=False))]
    assert bool(warnings) == warns
    assert "s3cret" not in " ".join(warnings)


@pytest.mark.parametrize(
    ("text", "is_older"),
    [
        (b"1.6.65", True), (b"1.6.66", False), (b"1.6.66-alpha.1", True), (b"1.6.67-a", False), (b"1.7.0-rc1", False),
        (b"1.7", False), (b"2", False), (b"0.35.81", True), (None, True), (b"", True), (b"x.y", True),
        (b"1..2", True), (b"99999999999.1", True), (b"-", True),
    ],
)  # fmt: skip
def test_versions_in_their_order(text: bytes | None, is_older: bool) -> None:
    assert (version_of(text) < (1, 6, 66)) == is_older
