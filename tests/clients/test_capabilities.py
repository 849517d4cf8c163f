"""What a client sends follows the announced version, and all of it works (clients.md §1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.clients.conftest import RunScenarios
from tests.clients.processes import Cubequeue

pytestmark = pytest.mark.node

# From the oldest form of everything to the newest, which is the default; between them all but Arrow and the fast track.
DEFAULT = "1.7.43"
ANNOUNCED = ["1.6.21", "1.6.65", DEFAULT]


@pytest.fixture(scope="module", params=ANNOUNCED)
def announced(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture(scope="module")
def server(announced: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cubequeue]:
    settings = {"CUBEQUEUE_ANNOUNCE_VERSION": announced}
    with Cubequeue(tmp_path_factory.mktemp("cubequeue") / "log", settings) as started:
        yield started
    assert started.complaints == []


@pytest.mark.parametrize("generation", ["0.35.81", "1.6.49", "1.7.43"], indirect=True)
@pytest.mark.parametrize("switches", ["off", "on"])
def test_the_client_uses_what_is_announced(
    server: Cubequeue, announced: str, run_scenarios: RunScenarios, switches: str
) -> None:
    value = "true" if switches == "on" else "false"
    run_scenarios(
        server,
        "capabilities",
        {"ANNOUNCED": announced, "CUBEJS_QUEUE_FAST_TRACK": value, "CUBEJS_QUEUE_EXTERNAL_ID": value},
    )


@pytest.mark.parametrize("announced", ["1.6.21", DEFAULT], indirect=True)
@pytest.mark.parametrize("generation", ["1.7.43"], indirect=True)
@pytest.mark.parametrize("scenarios", ["queue-driver", "cache-driver", "query-queue", "hostile", "lost-answers"])
def test_the_newest_client_on_the_oldest_and_newest_version(
    server: Cubequeue, run_scenarios: RunScenarios, scenarios: str
) -> None:
    """With all of its switches on; every generation has its tests at the default version with the switches off."""
    run_scenarios(server, scenarios, {"CUBEJS_QUEUE_FAST_TRACK": "true", "CUBEJS_QUEUE_EXTERNAL_ID": "true"})


def test_the_default_is_what_is_announced(cubequeue: Cubequeue) -> None:
    assert _announced_by(cubequeue) == DEFAULT


def _announced_by(server: Cubequeue) -> str | None:
    with connect(f"ws://127.0.0.1:{server.port}/ws") as socket:
        assert socket.response is not None
        return socket.response.headers.get("X-CubeStore-Version")
