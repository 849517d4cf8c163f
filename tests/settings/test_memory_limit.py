"""Limits of cgroups, read from a made-up root."""

from __future__ import annotations

from pathlib import Path

from cubequeue_server.process_limits import memory_limit_bytes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_v2_limit_of_the_own_group(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/pod/box\n", "sys/fs/cgroup/pod/box/memory.max": "1000000\n"})
    assert memory_limit_bytes(root) == 1_000_000


def test_v2_the_smallest_limit_of_the_groups_above_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        "sys/fs/cgroup/pod/box/memory.max": "max\n",
        "sys/fs/cgroup/pod/memory.max": "500\n",
        "sys/fs/cgroup/memory.max": "900\n",
    }
    assert memory_limit_bytes(write(tmp_path, files)) == 500


def test_v2_root_of_a_container(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "700\n"})
    assert memory_limit_bytes(root) == 700


def test_v1_limit_and_its_way_to_say_none(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n9:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "800\n",
    }
    assert memory_limit_bytes(write(tmp_path, files)) == 800


def test_no_limit_and_nothing_to_read(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path) is None
    write(tmp_path, {"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "max\n"})
    assert memory_limit_bytes(tmp_path) is None


def test_a_path_that_climbs_stays_under_the_mount(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/../../x\n", "sys/memory.max": "1\n", "sys/fs/cgroup/memory.max": "5\n"})
    assert memory_limit_bytes(tmp_path) == 5


def test_this_machine_has_a_limit() -> None:
    limit = memory_limit_bytes()
    assert limit is not None
    assert limit > 1 << 20
