"""The profiles under real limits: the small one of docs/deployment.md, and those of the chart."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cubequeue_server.settings.resolve import load_settings
from cubequeue_server.settings.table import BY_NAME
from tests.cli.running import ENTRY_POINT, TIMEOUT_S, clean_environment, serving
from tests.deploy.cgroups import ControlGroup, control_group
from tests.deploy.charts import container, plain_environment, quantity, rendered
from tests.deploy.files import CUBEQUEUE_SERVICE, MIB, profile
from tests.deploy.load import Amounts, run_load

LIMIT_BYTES = int(CUBEQUEUE_SERVICE["mem_limit"].removesuffix("m")) * MIB
PROCESSORS = float(CUBEQUEUE_SERVICE["cpus"])
DERIVED = {"cache_max_size": 32 * MIB, "queue_max_size": 26 * MIB, "answers_max_size": 104 * MIB // 5}


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    with control_group(LIMIT_BYTES, PROCESSORS) as made:
        yield made


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """The load's own connections need more files than a shell's limit allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(8_192, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def peak_bytes(process_id: int) -> int:
    """The most that a process ever had in memory."""
    text = Path(f"/proc/{process_id}/status").read_text()
    return int(next(re.finditer(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE))[1]) * 1024


def carries(
    group: ControlGroup,
    data_dir: Path,
    amounts: Amounts,
    variables: dict[str, str],
    limit_bytes: int = LIMIT_BYTES,
    cache_bytes: int = DERIVED["cache_max_size"],
) -> None:
    """A server in the group does all of a load, and the kernel has to end nothing."""
    with serving("--data-dir", str(data_dir), command=group.command(ENTRY_POINT), **variables) as server:
        members = group.process_ids()
        assert server.process.pid in members
        assert len(members) == 2  # the server, and the process that syncs
        info = asyncio.run(run_load("ws://{}:{}".format(*server.ws), amounts))
        members = group.process_ids()  # the one that evaluates SELECTs has joined: the load asks for figures
        assert len(members) == 3
        assert group.oom_kills() == 0
        peaks = [peak_bytes(process_id) for process_id in members]
        print(f"peaks {[peak // 1_000_000 for peak in peaks]} MB, held {group.held_bytes() // 1_000_000} MB")
        assert sum(peaks) < limit_bytes
        held_bytes, evicted = int(info["CacheItems.size_total"]), int(server_metric(server.get("/metrics")[1]))
        assert cache_bytes // 2 < held_bytes <= cache_bytes * 5 // 4
        assert held_bytes + evicted >= amounts.cache_mib * MIB
        code, _, errors = server.end(15)
        assert (code, "error" in errors.lower()) == (0, False), errors


def server_metric(page: bytes, name: str = "cubequeue_cache_evicted_bytes_total") -> float:
    """One number of the metrics."""
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith(name.encode() + b" ")))


def test_sizes_are_derived_from_the_limit(group: ControlGroup) -> None:
    done = subprocess.run(
        group.command(ENTRY_POINT, "settings"),
        env=clean_environment(**profile()),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stderr == ""
    lines = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    for name, value in DERIVED.items():
        setting = BY_NAME[name]
        assert lines[name] == [*setting.kind.show(value).split(), "default"]


@pytest.mark.timeout(90)
def test_it_carries_what_a_small_deployment_asks_of_it(group: ControlGroup, tmp_path: Path) -> None:
    carries(group, tmp_path, Amounts(1_000, life_cycles=800, large_results=9, cache_mib=64), profile())


@pytest.mark.timeout(90)
def test_without_the_profile_the_limit_alone_keeps_it_alive(group: ControlGroup, tmp_path: Path) -> None:
    carries(group, tmp_path, Amounts(200, life_cycles=400, large_results=6, cache_mib=64), {})


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_it_carries_it_for_long(group: ControlGroup, tmp_path: Path) -> None:
    carries(group, tmp_path, Amounts(1_000, life_cycles=15_000, large_results=60, cache_mib=500), profile())


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["medium", "large"])
def test_the_larger_profiles_of_the_chart_carry_a_full_cache_and_all_connections(name: str, tmp_path: Path) -> None:
    manifests = rendered("auth.enabled=false", profile=name)
    limits = container(manifests)["resources"]["limits"]
    limit_bytes, processors = quantity(limits["memory"]), float(limits["cpu"])
    variables = plain_environment(manifests)
    cache_bytes = load_settings({}, variables, None, limit_bytes).settings.cache.max_bytes
    connections = min(int(variables["CUBEQUEUE_MAX_CONNECTIONS"]), 4_000) - 1  # the load's own descriptors
    amounts = Amounts(connections, life_cycles=15_000, large_results=60, cache_mib=2 * cache_bytes // MIB)
    with control_group(limit_bytes, processors) as group:
        carries(group, tmp_path, amounts, variables, limit_bytes, cache_bytes)
