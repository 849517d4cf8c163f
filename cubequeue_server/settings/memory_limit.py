"""How much memory this process may use: the smallest of the machine's memory and the limits of its cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# cgroup v1 says "no limit" with a number near 2^63, rounded to pages.
_V1_UNLIMITED = 1 << 60


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The limit in bytes, or None when nothing says one. `root` is where /proc and /sys are found."""
    limits = [limit for file in _limit_files(root) if (limit := _read_limit(file)) is not None]
    machine = _machine_bytes() if root == Path("/") else None
    if machine is not None:
        limits.append(machine)
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield from _with_parents(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _with_parents(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")


def _with_parents(mount: Path, group: str, name: str) -> Iterator[Path]:
    """The file in the group and in each group above it: any of them may be the one that limits."""
    parts = [part for part in group.split("/") if part not in {"", ".", ".."}]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth]) / name


def _read_limit(file: Path) -> int | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):  # no such group, or the word `max`
        return None
    return limit if 0 < limit < _V1_UNLIMITED else None


def _machine_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
