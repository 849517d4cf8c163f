"""Mistakes that people make with addresses, schemes and passwords: each gets one line that says what to do."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

from tests.certificates import Certificate, make_certificate
from tests.cli.running import Running, run, serving

PASSWORD = "s3cret-needle"


@dataclass(frozen=True)
class Servers:
    """One without anything, one with a user, one with TLS."""

    plain: Running
    secured: Running
    tls: Running
    certificate: Certificate

    def address(self, name: str) -> str:
        """`plain.status` as `127.0.0.1:port`; any other name as it is."""
        server, _, port = name.partition(".")
        if port not in {"ws", "status", "mysql"}:
            return name
        host, number = getattr(getattr(self, server), port)
        return f"{host}:{number}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = make_certificate(tmp_path_factory.mktemp("tls"))
    files = {"CUBEQUEUE_TLS_CERT": str(made.certificate), "CUBEQUEUE_TLS_KEY": str(made.key)}
    mysql = {"CUBESTORE_PORT": "auto", "CUBESTORE_BIND_ADDR": "127.0.0.1:auto"}
    with ExitStack() as stack:
        yield Servers(
            stack.enter_context(serving(**mysql)),
            stack.enter_context(serving(CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD=PASSWORD)),
            stack.enter_context(serving(**files)),
            made,
        )


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "variables", "code", "text"),
    [
        ("secured.ws", {}, 1, "not authorized: this server has users, set CUBEQUEUE_USER and CUBEQUEUE_PASSWORD"),
        ("secured.ws", {"CUBEQUEUE_USER": "ann", "CUBEQUEUE_PASSWORD": "x"}, 1, "wrong user or password"),
        ("closed", {}, 1, "nothing listens there: is cubequeue up, and is that its port?"),
        ("plain.status", {}, 1, "This is the status port of cubequeue. Clients connect to the WebSocket port"),
        ("plain.mysql", {}, 1, "clients connect to CUBESTORE_HTTP_PORT (3030)"),
        ("ws://tls.ws", {}, 1, "that port speaks TLS: use wss://127.0.0.1:"),
        ("tls.ws", {}, 1, "that port speaks TLS: use wss://127.0.0.1:"),
        ("ws://tls.status", {}, 1, "that port speaks TLS: use wss://127.0.0.1:"),
        ("wss://plain.ws", {}, 1, "that port speaks no TLS: use ws://127.0.0.1:"),
        ("wss://tls.ws", {}, 1, "SSL_CERT_FILE=/path/ca.pem trusts an authority of your own"),
        ("nowhere.invalid", {}, 1, "there is no host of that name"),
        ("http://plain.status", {}, 2, "--url: not a ws:// address: use ws://127.0.0.1:3030"),
        ("https://some.host/x", {}, 2, "--url: not a ws:// address: use wss://some.host:3030"),
        ("ftp://h", {}, 2, "--url: not a host, a host with its port, or a ws:// or wss:// address"),
        ("h:99999", {}, 2, "--url: Port out of range 0-65535"),
        ("ws://ann:hunter2@h", {}, 2, "--url takes no credentials, everyone can read command lines"),
        (None, {"CUBEQUEUE_URL": "ws://ann:hunter2@h"}, 2, "CUBEQUEUE_URL takes no credentials"),
        (None, {"CUBEQUEUE_URL": "nowhere.invalid"}, 1, "ws://nowhere.invalid:3030: there is no host of that name"),
    ],
)
def test_a_command_says_in_one_line_what_to_do(
    servers: Servers, url: str | None, variables: dict[str, str], code: int, text: str
) -> None:
    flags = []
    if url is not None:
        scheme, colon, name = url.rpartition("://")
        flags = [f"--url={scheme}{colon}{closed_port() if name == 'closed' else servers.address(name)}"]
    done = run("queues", *flags, **variables)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert text in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("form", ["{}", "ws://{}", "ws://{}/", "ws://{}/ws"])
def test_an_address_may_be_short(servers: Servers, form: str) -> None:
    address = form.format(servers.address("plain.ws"))
    assert run("queues", f"--url={address}").returncode == 0
    assert run("queues", CUBEQUEUE_URL=address).returncode == 0


def test_the_advice_to_use_the_other_scheme_works(servers: Servers) -> None:
    told = run("sql", f"--url=ws://{servers.address('tls.ws')}", "SELECT 1").stderr
    advised = told.rstrip("\n").rpartition("use ")[2]
    assert (
        run("sql", f"--url={advised}", "SELECT 1", SSL_CERT_FILE=str(servers.certificate.certificate)).returncode == 0
    )


@pytest.mark.parametrize("port", ["tls.ws", "tls.status"])
def test_plain_http_at_a_port_with_tls_is_told(servers: Servers, port: str) -> None:
    connection = http.client.HTTPConnection(servers.address(port), timeout=5)
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    assert answer.status == 400
    assert json.loads(answer.read()) == {"error": "this port speaks TLS only: use wss:// or https://"}
    connection.close()


@pytest.mark.parametrize("port", ["plain.ws", "plain.status"])
def test_tls_at_a_port_without_is_refused_at_once(servers: Servers, port: str) -> None:
    host, _, number = servers.address(port).rpartition(":")
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, int(number)), 5) as bare,
        pytest.raises(ssl.SSLError, match=r"(?i)version|http"),
    ):
        context.wrap_socket(bare, server_hostname=host)


@pytest.mark.parametrize("port", ["plain.ws", "tls.ws"])
def test_a_mysql_client_at_the_websocket_port_is_told(servers: Servers, port: str) -> None:
    host, _, number = servers.address(port).rpartition(":")
    with pytest.raises(pymysql.err.OperationalError, match="no MySQL here: this is the WebSocket port"):
        pymysql.connect(host=host, port=int(number), user="x", connect_timeout=30)


@pytest.mark.parametrize(
    ("path", "authorization", "status", "text"),
    [
        ("/", None, 401, b"give a name and its password"),
        ("/", "Basic YW5uOng=", 401, b"Wrong name or password"),
        ("/nothing", "Basic YW5uOnMzY3JldC1uZWVkbGU=", 404, b"The page is at /"),
    ],
)
def test_the_status_port_says_what_to_do(
    servers: Servers, path: str, authorization: str | None, status: int, text: bytes
) -> None:
    connection = http.client.HTTPConnection(servers.address("secured.status"), timeout=5)
    connection.request("GET", path, headers={"authorization": authorization} if authorization else {})
    answer = connection.getresponse()
    assert (answer.status, text in answer.read()) == (status, True)
    connection.close()


def test_a_wrong_password_is_told_by_commands_that_ask_the_status_port(servers: Servers, tmp_path: Path) -> None:
    whole = {"CUBEQUEUE_USER": "ann", "CUBEQUEUE_PASSWORD": PASSWORD}
    url = f"--url={servers.address('secured.ws')}"
    assert run("monitor", url, "--seconds=1", **whole).returncode == 0
    closed = run("monitor", url, f"--status-url=http://{closed_port()}", "--seconds=1", **whole)
    assert (closed.returncode, closed.stderr.count("\n")) == (1, 1)
    assert "status port http://127.0.0.1:" in closed.stderr
