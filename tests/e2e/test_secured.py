"""A whole Cube API server at a cubequeue with credentials and TLS, configured as the README says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.clients.processes import Cubequeue
from tests.e2e.api_server import ApiServer, DataSource
from tests.e2e.test_two_servers import expected_orders, orders_up_to

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

USER, PASSWORD = "cube", "s3cret-needle"


@pytest.mark.parametrize("version", ["0.35.81", "1.7.43"])
def test_queries_are_answered_over_wss(version: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    access = {
        "CUBEQUEUE_USER": USER,
        "CUBEQUEUE_PASSWORD": PASSWORD,
        "CUBEQUEUE_TLS_CERT": str(certificate.certificate),
        "CUBEQUEUE_TLS_KEY": str(certificate.key),
    }
    data = DataSource(tmp_path)
    with Cubequeue(tmp_path / "cubequeue.log", access) as cubequeue:
        url = f"wss://{USER}:{PASSWORD}@localhost:{cubequeue.port}"
        settings = {"CUBEQUEUE_URL": url, "NODE_EXTRA_CA_CERTS": str(certificate.certificate)}
        # A host that would be refused, were it asked.
        settings["CUBEJS_CUBESTORE_HOST"] = "cubequeue.invalid"
        (tmp_path / "api").mkdir()
        with ApiServer(version, cubequeue, data, tmp_path / "api", 0, settings) as server:
            for _ in range(2):
                assert server.load(orders_up_to(40)) == expected_orders(data, 40)
            assert server.complaints == []
    assert len(data.executed("orders")) == 1, "the second time it came from the cache"
    assert cubequeue.complaints == []
    assert PASSWORD not in cubequeue.log.read_text()
