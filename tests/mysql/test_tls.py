"""TLS on the MySQL port by PyMySQL and the mariadb client, and its certificate read again."""

from __future__ import annotations

import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from tests.certificates import Certificate, make_certificate
from tests.cli.running import Running, run, serving
from tests.mysql import test_mariadb_client as mariadb
from tests.mysql.test_pymysql import ask, connect
from tests.needed import reason


@pytest.fixture(scope="module")
def secured(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with TLS and two users: of ann the password is known, of bob only the hash."""
    users = tmp_path_factory.mktemp("users") / "users"
    hashed = mariadb.hash_of("s3cret")
    users.write_text(f"ann:s3cret\nbob:{hashed}\n")
    with serving(
        "--mysql-bind", "127.0.0.1:auto", "--tls-cert", str(certificate.certificate), "--tls-key", str(certificate.key),
        CUBEQUEUE_USERS_FILE=str(users),
    ) as running:  # fmt: skip
        yield running
        code, _, errors = running.end(signal.SIGTERM)
    assert code == 0
    assert "s3cret" not in errors
    assert '"level": "error"' not in errors


@pytest.mark.parametrize("user", ["ann", "bob"])
def test_pymysql(user: str, secured: Running, certificate: Certificate) -> None:
    options = {"user": user, "ssl": certificate.client_context()}
    with closing(connect(secured, password="s3cret", **options)) as client:
        assert ask(client, "SELECT 1") == [(1,)]
    with pytest.raises(pymysql.OperationalError) as error:
        connect(secured, password="wrong", **options)
    assert error.value.args[0] == 1045


def test_pymysql_in_the_clear_is_told(secured: Running) -> None:
    with pytest.raises(pymysql.OperationalError) as error:
        connect(secured, user="ann", password="s3cret", ssl_disabled=True)
    assert error.value.args == (3159, "this port speaks TLS only: the client has to ask for it")


def test_pymysql_trusts_only_what_it_knows(secured: Running) -> None:
    with pytest.raises(pymysql.OperationalError) as error:
        connect(secured, user="ann", password="s3cret", ssl=ssl.create_default_context())
    assert "certificate verify failed" in str(error.value)


@pytest.mark.skipif(shutil.which("mariadb") is None, reason=reason("mariadb"))
@pytest.mark.parametrize("user", ["ann", "bob"])
def test_the_mariadb_client(user: str, secured: Running, certificate: Certificate) -> None:
    trust = [f"--ssl-ca={certificate.certificate}", "--ssl-verify-server-cert"]
    options = [f"--user={user}", "--password=s3cret", *trust]
    assert mariadb.lines(secured, "SELECT 1", *options) == [["1"]]
    refused = mariadb.run(secured, "SELECT 1", f"--user={user}", "--password=s3cret", "--skip-ssl")
    assert "ERROR 3159 (HY000)" in refused.stderr


def test_the_certificate_is_read_again(tmp_path: Path, certificate: Certificate) -> None:
    other = make_certificate(tmp_path, "other")
    used = Certificate(tmp_path / "used.crt", tmp_path / "used.key")
    for target, source in zip(used, certificate, strict=True):
        target.write_bytes(source.read_bytes())
    flags = ["--tls-cert", str(used.certificate), "--tls-key", str(used.key)]
    with (
        serving("--mysql-bind", "127.0.0.1:auto", *flags) as server,
        closing(connect(server, ssl=certificate.client_context())) as old,
    ):
        for target, source in zip(used, other, strict=True):
            target.write_bytes(source.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        until_trusted(server, other)
        assert ask(old, "SELECT 1") == [(1,)], "who is connected stays"


def until_trusted(server: Running, certificate: Certificate) -> None:
    deadline_s = time.monotonic() + 10
    while True:
        try:
            connect(server, ssl=certificate.client_context()).close()
        except pymysql.OperationalError:
            assert time.monotonic() < deadline_s, "the new certificate is never shown"
        else:
            return


def test_the_help_says_so() -> None:
    assert "all three ports speak TLS only" in " ".join(run("serve", "--help").stdout.split())
