"""The generations of the client, and a server for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.clients.install import folders
from tests.clients.processes import Cubequeue, NodeProcess, package_folder

# 1.6.62 differs from those around it in its decoder alone: the compatibility matrix is enough for it.
GENERATIONS = [folder.name for folder in folders("clients") if folder.name != "1.6.62"]
SCENARIO_LIMIT_S = 60

RunScenarios = Callable[..., None]


@pytest.fixture(params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    """The version of the client's packages."""
    version: str = request.param
    return version


@pytest.fixture
def packages(generation: str) -> Path:
    """Where they are installed."""
    return package_folder("clients", generation)


@pytest.fixture(scope="module")
def cubequeue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cubequeue]:
    """A running server; tests share it and use prefixes of their own."""
    with Cubequeue(tmp_path_factory.mktemp("cubequeue") / "log") as server:
        yield server
    assert server.complaints == []


@pytest.fixture
def run_scenarios(packages: Path, subtests: pytest.Subtests) -> RunScenarios:
    """Run a file of scenarios, each reported as a subtest."""

    def run(
        server: Cubequeue, name: str, environment: Mapping[str, str] | None = None, only: Sequence[str] = ()
    ) -> None:
        arguments = ["run.js", f"scenarios/{name}.js", *only]
        limits = {"SCENARIO_LIMIT_MS": str(SCENARIO_LIMIT_S * 1000)}
        with NodeProcess(server, packages, arguments, {**limits, **(environment or {})}, SCENARIO_LIMIT_S + 30) as node:
            done = None
            for line in node.lines():
                if "done" in line:
                    done = line["done"]
                    continue
                with subtests.test(msg=line["scenario"]):
                    if "skipped" in line:
                        pytest.skip(line["skipped"])
                    assert line["ok"], line["error"]
            assert node.exit_code() == 0, node.errors
            assert done, node.errors

    return run
