"""Credentials and TLS of a whole process: settings, files, SIGHUP, health, and what must never be seen."""

from __future__ import annotations

import asyncio
import http.client
import signal
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cubequeue_server.access.credentials import Credentials, Verdict
from cubequeue_server.access.passwords import parse_secret, parse_users
from tests.certificates import Certificate, make_certificate
from tests.cli.running import ENTRY_POINT, Running, clean_environment, run, serving

SECRET = "s3cret-needle"


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def upgrade_status(server: Running, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> int:
    """How the WebSocket port answers."""
    host, port = server.ws
    scheme = "ws" if tls is None else "wss"
    try:
        with connect(f"{scheme}://{host}:{port}/ws", additional_headers=headers, ssl=tls, proxy=None) as socket:
            assert socket.response is not None
            return socket.response.status_code
    except InvalidStatus as refused:
        return refused.response.status_code


def errors_of(server: Running) -> list[str]:
    """Lines of the log at level error, read to the end: it ends the server."""
    code, _, log = server.end(signal.SIGTERM)
    assert code == 0
    assert SECRET not in log
    return [line for line in log.splitlines() if '"level": "error"' in line]


def test_a_user_from_the_environment() -> None:
    with serving(CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD=SECRET) as server:
        assert upgrade_status(server, {}) == 403
        assert upgrade_status(server, basic("ann", "wrong")) == 403
        assert upgrade_status(server, basic("ann", SECRET)) == 101
        assert server.get("/readyz") == (200, b"")
        assert server.get("/metrics")[0] == 401
        command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert SECRET.encode() not in command_line
        assert errors_of(server) == []


def test_a_password_and_users_from_files(tmp_path: Path) -> None:
    password, users = tmp_path / "password", tmp_path / "users"
    password.write_text(SECRET + "\n")
    users.write_text(f"bob:{SECRET}2\n")
    with serving(
        "--user", "ann", "--password-file", str(password), "--users-file", str(users), CUBESTORE_LOG_LEVEL="trace"
    ) as server:
        assert upgrade_status(server, basic("ann", SECRET)) == 101
        assert upgrade_status(server, basic("bob", SECRET + "2")) == 101
        assert upgrade_status(server, basic("bob", SECRET)) == 403
        assert errors_of(server) == []


def test_a_hash_from_the_command_for_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [ENTRY_POINT, "hash-password"], input=f"{SECRET}\n", env=clean_environment(),
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    users = tmp_path / "users"
    users.write_text(f"ann:{done.stdout}")
    with serving("--users-file", str(users)) as server:
        for _ in range(2):
            assert upgrade_status(server, basic("ann", SECRET)) == 101
        assert upgrade_status(server, basic("ann", "wrong")) == 403
        assert upgrade_status(server, basic("ann", done.stdout.strip())) == 403, "the hash is no password"
        assert errors_of(server) == []


def test_hash_password_wants_a_password() -> None:
    done = subprocess.run(
        [ENTRY_POINT, "hash-password"], input="\n", env=clean_environment(),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "cubequeue: no password was given\n")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Names of files for the table below."""
    (tmp_path / "empty").touch()
    (tmp_path / "users").write_text(f"ann:{SECRET}\n")
    (tmp_path / "bad").write_text(f"ann:{SECRET}\n{SECRET}\n")
    (tmp_path / "large").write_bytes(bytes(1024 * 1024 + 1))
    return {name: str(tmp_path / name) for name in ("empty", "users", "bad", "large", "none")}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"USER": "ann"}, "CUBEQUEUE_USER needs CUBEQUEUE_PASSWORD (or its _FILE): a client names both"),
        ({"PASSWORD": SECRET}, "CUBEQUEUE_PASSWORD needs CUBEQUEUE_USER (or its _FILE): a client names both"),
        (
            {"USER": "ann", "PASSWORD": SECRET, "PASSWORD_FILE": "{users}"},
            "CUBEQUEUE_PASSWORD and CUBEQUEUE_PASSWORD_FILE are both set: one of them is enough",
        ),
        ({"USER": "ann", "PASSWORD_FILE": "{empty}"}, "CUBEQUEUE_PASSWORD_FILE={empty}: it is empty"),
        (
            {"USER": "ann", "PASSWORD_FILE": "{none}"},
            "CUBEQUEUE_PASSWORD_FILE={none}: cannot be read: No such file or directory",
        ),
        ({"USERS_FILE": "{empty}"}, "CUBEQUEUE_USERS_FILE={empty}: no user stands in it"),
        ({"USERS_FILE": "{bad}"}, "CUBEQUEUE_USERS_FILE={bad}: line 2: not user:password"),
        ({"USERS_FILE": "{large}"}, "CUBEQUEUE_USERS_FILE={large}: more than 1 MiB"),
        (
            {"USERS_FILE": "{users}", "USER": "ann", "PASSWORD": SECRET},
            "the user of CUBEQUEUE_USER stands in CUBEQUEUE_USERS_FILE too",
        ),
        ({"TLS_CERT": "{users}"}, "CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: one is set and the other is not"),
        (
            {"TLS_CERT": "{none}", "TLS_KEY": "{users}"},
            "CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: cannot read {none}: No such file or directory",
        ),
        (
            {"TLS_CERT": "{users}", "TLS_KEY": "{bad}"},
            "CUBEQUEUE_TLS_CERT and CUBEQUEUE_TLS_KEY: cannot use {users} with {bad}: ",
        ),
    ],
)
def test_what_cannot_be_used_ends_the_start(variables: dict[str, str], text: str, files: dict[str, str]) -> None:
    environment = {f"CUBEQUEUE_{name}": value.format(**files) for name, value in variables.items()}
    done = run("serve", "--http-bind", "127.0.0.1:auto", "--status-port", "0", **environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cubequeue: {text.format(**files)}")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_settings_do_not_show_the_password() -> None:
    done = run("settings", CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD=SECRET)
    assert SECRET not in done.stdout + done.stderr
    assert "password                                   hidden                 CUBEQUEUE_PASSWORD\n" in done.stdout


# SIGHUP


def until_status(server: Running, headers: dict[str, str], wanted: int) -> None:
    for _ in range(200):
        if upgrade_status(server, headers) == wanted:
            return
    raise AssertionError(f"never {wanted}")


def test_users_are_read_again_and_a_bad_file_keeps_the_old(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:old\n")
    with serving("--users-file", str(users)) as server:
        with connect("ws://{}:{}/ws".format(*server.ws), additional_headers=basic("ann", "old"), proxy=None) as old:
            users.write_text("ann:new\n")
            server.process.send_signal(signal.SIGHUP)
            until_status(server, basic("ann", "new"), 101)
            assert upgrade_status(server, basic("ann", "old")) == 403
            pong = old.ping()
            assert pong.wait(5), "who is connected stays, with the old password"
            users.write_text("bob:new\n")
            server.process.send_signal(signal.SIGHUP)
            with pytest.raises(ConnectionClosed):
                old.recv(timeout=10)
            assert old.protocol.close_rcvd is not None
            assert (old.protocol.close_rcvd.code, old.protocol.close_rcvd.reason) == (1008, "this user was removed")
            assert upgrade_status(server, basic("ann", "new")) == 403
        users.write_text(SECRET)
        server.process.send_signal(signal.SIGHUP)
        assert server.get("/livez") == (200, b"")
        assert upgrade_status(server, basic("bob", "new")) == 101
        assert upgrade_status(server, {}) == 403
        (error,) = errors_of(server)
        assert "the users stay as they were: CUBEQUEUE_USERS_FILE=" in error
        assert "line 1: not user:password" in error


# TLS


@pytest.fixture
def used(tmp_path: Path, certificate: Certificate) -> Certificate:
    """A copy to be changed."""
    copy = Certificate(tmp_path / "used.crt", tmp_path / "used.key")
    for target, source in zip(copy, certificate, strict=True):
        target.write_bytes(source.read_bytes())
    return copy


def tls_flags(used: Certificate) -> list[str]:
    return ["--tls-cert", str(used.certificate), "--tls-key", str(used.key)]


def test_the_websocket_and_the_status_port_speak_tls(used: Certificate) -> None:
    trusting = used.client_context()
    with serving(*tls_flags(used)) as server:
        assert upgrade_status(server, {}, trusting) == 101
        connection = http.client.HTTPSConnection(*server.status, timeout=5, context=trusting)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
        assert server.get("/readyz")[0] == 400
        assert errors_of(server) == []


def test_the_certificate_is_read_again_and_a_bad_one_keeps_the_old(used: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other")
    shown = used.certificate.read_text()
    with serving(*tls_flags(used)) as server:
        assert ssl.get_server_certificate(server.ws) == shown
        used.certificate.write_bytes(other.certificate.read_bytes())  # and its key is not there yet
        server.process.send_signal(signal.SIGHUP)
        assert ssl.get_server_certificate(server.status) == shown
        assert upgrade_status(server, {}, ssl.create_default_context(cadata=shown)) == 101
        used.key.write_bytes(other.key.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        for address in (server.ws, server.status):
            for _ in range(200):
                if ssl.get_server_certificate(address) == other.certificate.read_text():
                    break
            else:
                raise AssertionError("the new certificate is never shown")
        assert upgrade_status(server, {}, other.client_context()) == 101
        (error,) = errors_of(server)
        assert "the certificate stays as it was: cannot use" in error
        assert "key values mismatch" in error


# Health


def test_a_healthcheck_with_credentials_and_tls(used: Certificate, tmp_path: Path) -> None:
    flags = [*tls_flags(used), "--user", "ann"]
    with serving(*flags, CUBEQUEUE_PASSWORD=SECRET) as server:
        port = server.status[1]
        assert run("healthcheck", "--status-port", str(port), *flags).returncode == 0
        assert run("healthcheck", "--url", f"https://127.0.0.1:{port}/readyz").returncode == 1, "nobody vouches for it"
        trusted = run("healthcheck", "--url", f"https://127.0.0.1:{port}", SSL_CERT_FILE=str(used.certificate))
        assert (trusted.returncode, trusted.stderr) == (0, "")
        by_websocket = run("healthcheck", "--status-port", "0", "--http-port", str(server.ws[1]), *flags)
        assert (by_websocket.returncode, by_websocket.stderr) == (0, "")
        assert run("healthcheck", "--status-port", str(port)).returncode == 1, "it speaks TLS only"
        assert errors_of(server) == []


def test_what_the_command_prints_is_a_hash_of_the_password() -> None:
    done = subprocess.run(
        [ENTRY_POINT, "hash-password"], input="pä:ss\r\n".encode(), env=clean_environment(),
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    users = parse_users(b"ann:" + done.stdout)
    assert users[b"ann"] == parse_secret(done.stdout.strip())
    assert asyncio.run(Credentials(users).verify(b"ann", "pä:ss".encode())) is Verdict.ADMITTED
