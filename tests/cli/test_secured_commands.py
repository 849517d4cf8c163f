"""The commands that talk to a server, over TLS and with credentials, all from the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.cli.running import Running, run, serving
from tests.cli.terminal import on_terminal

PASSWORD = "pä:ss w0rd"


@dataclass(frozen=True)
class Secured:
    """A server with a user and, by `scheme`, with TLS; `variables` are what a client of it needs to set."""

    server: Running
    scheme: str
    variables: dict[str, str]

    @property
    def url(self) -> str:
        return "--url={}://{}:{}".format(self.scheme, *self.server.ws)

    @property
    def status_url(self) -> str:
        return "--status-url={}://{}:{}".format({"ws": "http", "wss": "https"}[self.scheme], *self.server.status)


@pytest.fixture(scope="module", params=["ws", "wss"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    file = folder / "password"
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    ours = {"CUBEQUEUE_USER": "ops", "CUBEQUEUE_PASSWORD": PASSWORD}
    theirs = {"CUBEQUEUE_USER": "ops", "CUBEQUEUE_PASSWORD_FILE": str(file)}
    if request.param == "wss":
        made = make_certificate(folder)
        ours |= {"CUBEQUEUE_TLS_CERT": str(made.certificate), "CUBEQUEUE_TLS_KEY": str(made.key)}
        theirs |= {"SSL_CERT_FILE": str(made.certificate)}
    with serving(**ours) as server:
        yield Secured(server, request.param, theirs)


def test_each_command_works(secured: Secured) -> None:
    variables = secured.variables
    added = run("sql", secured.url, "--json", "QUEUE ADD PRIORITY 1 'q:a' 'x'", **variables)
    assert json.loads(added.stdout)[0]["added"] is True
    assert run("queues", secured.url, **variables).stdout.splitlines()[2].split()[:3] == ["q", "1", "0"]
    assert json.loads(run("queues", "q", secured.url, "--json", **variables).stdout)[0]["key"] == "a"
    assert run("cancel", "q:a", secured.url, **variables).stdout == "cancelled q:a\n"
    frame = run("top", "--once", secured.url, secured.status_url, **variables).stdout
    assert "statements/s" in frame
    assert "resident" in frame.replace("memory -", "")
    assert run("healthcheck", secured.status_url.replace("--status-url", "--url"), **variables).returncode == 0
    bench = run("bench", secured.url, "--seconds=1", "--connections=2", "--depth=2", **variables)
    assert bench.returncode == 0, bench.stdout + bench.stderr


def test_top_is_live(secured: Secured) -> None:
    with on_terminal("top", secured.url, secured.status_url, "--interval=1", variables=secured.variables) as terminal:
        terminal.wait_for(lambda text: "statements/s" in text and "statements/s -" not in text)
        terminal.press(b"q")
        assert terminal.read_to_the_end() == 0


def test_a_password_comes_from_a_variable_too_and_a_wrong_one_is_told(secured: Secured) -> None:
    others = {name: text for name, text in secured.variables.items() if name == "SSL_CERT_FILE"}
    named = {**others, "CUBEQUEUE_USER": "ops"}
    assert run("sql", secured.url, "SELECT 1", CUBEQUEUE_PASSWORD=PASSWORD, **named).returncode == 0
    for variables, text in (
        (others, "not authorized: this server has users, set CUBEQUEUE_USER"),
        ({**named, "CUBEQUEUE_PASSWORD": "hunter2"}, "wrong user or password"),
    ):
        refused = run("sql", secured.url, "SELECT 1", **variables)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert text in refused.stderr
        assert "hunter2" not in refused.stderr
    missing = run("sql", secured.url, "SELECT 1", **{**named, "CUBEQUEUE_PASSWORD_FILE": "/nowhere"})
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


def test_the_other_scheme_and_an_unknown_certificate_are_one_line(secured: Secured, tmp_path: Path) -> None:
    other = {"ws": "wss", "wss": "ws"}[secured.scheme]
    failed = run("sql", secured.url.replace(f"={secured.scheme}:", f"={other}:"), "SELECT 1", **secured.variables)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    right = secured.url.removeprefix("--url=")
    speaks = {"ws": "no TLS", "wss": "TLS"}[secured.scheme]
    assert f"that port speaks {speaks}: use {right}\n" in failed.stderr
    if secured.scheme == "wss":
        stranger = make_certificate(tmp_path, "stranger")
        variables = {**secured.variables, "SSL_CERT_FILE": str(stranger.certificate)}
        refused = run("sql", secured.url, "SELECT 1", **variables)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert "SSL_CERT_FILE" in refused.stderr
