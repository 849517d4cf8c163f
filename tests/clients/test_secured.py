"""Stock drivers at a server with credentials and TLS, by nothing but their settings (wire.md §1, clients.md §5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.clients.processes import Cubequeue, NodeProcess

pytestmark = pytest.mark.node

USER, PASSWORD = "cube", "s3cret-_.~needle"
LIMIT_S = 40


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cubequeue]:
    """A server with credentials."""
    settings = {"CUBEQUEUE_USER": USER, "CUBEQUEUE_PASSWORD": PASSWORD, "CUBESTORE_LOG_LEVEL": "trace"}
    with Cubequeue(tmp_path_factory.mktemp("guarded") / "log", settings) as server:
        yield server
    assert server.complaints == []
    assert PASSWORD not in server.log.read_text()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Cubequeue]:
    """A server with credentials and TLS."""
    settings = {
        "CUBEQUEUE_USER": USER,
        "CUBEQUEUE_PASSWORD": PASSWORD,
        "CUBEQUEUE_TLS_CERT": str(certificate.certificate),
        "CUBEQUEUE_TLS_KEY": str(certificate.key),
    }
    with Cubequeue(tmp_path_factory.mktemp("encrypted") / "log", settings) as server:
        yield server
    assert server.complaints == []


def round_of(server: Cubequeue, packages: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    once = {"CUBEJS_CUBESTORE_MAX_CONNECT_RETRIES": "1"}
    with NodeProcess(server, packages, ["secured.js"], {**once, **environment}, LIMIT_S) as node:
        return next(node.lines(), {"error": node.errors})


DONE = {"done": {"claimed": True, "result": {"result": "x"}, "cached": {"value": 1}}}


def test_credentials_in_the_host(guarded: Cubequeue, packages: Path) -> None:
    assert round_of(guarded, packages, {"CUBEJS_CUBESTORE_HOST": f"{USER}:{PASSWORD}@127.0.0.1"}) == DONE


def test_without_them_it_is_refused(guarded: Cubequeue, packages: Path) -> None:
    for host in ("127.0.0.1", f"{USER}:guess@127.0.0.1"):
        refusal = round_of(guarded, packages, {"CUBEJS_CUBESTORE_HOST": host})
        assert "403" in refusal["refused"]
    unread = {"CUBEJS_CUBESTORE_USER": USER, "CUBEJS_CUBESTORE_PASS": PASSWORD}
    assert "403" in round_of(guarded, packages, unread)["refused"], "the driver reads these and sends nothing"


def test_tls_and_credentials_in_the_url(encrypted: Cubequeue, packages: Path, certificate: Certificate) -> None:
    url = {"CLIENT_URL": f"wss://{USER}:{PASSWORD}@127.0.0.1:{encrypted.port}"}
    trust = {"NODE_EXTRA_CA_CERTS": str(certificate.certificate)}
    assert round_of(encrypted, packages, {**url, **trust}) == DONE
    assert "certificate" in round_of(encrypted, packages, url)["refused"]
    assert (
        "403" in round_of(encrypted, packages, {"CLIENT_URL": f"wss://127.0.0.1:{encrypted.port}", **trust})["refused"]
    )
