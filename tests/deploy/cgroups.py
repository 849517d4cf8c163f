"""A control group with a limit of memory and a share of a processor, where this machine lets us make one (v1 or v2)."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.needed import require

MOUNT: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 100_000


@dataclass(frozen=True)
class ControlGroup:
    """The folders of one group: one of the memory controller, one of the processor's; in v2 both are the same."""

    memory: Path
    processor: Path
    is_v2: bool

    def command(self, *command: str | Path) -> list[str | Path]:
        """A command that joins the group and then runs the given one in its own place."""
        join = 'for group in "$1" "$2"; do echo $$ > "$group/cgroup.procs" || exit 99; done; shift 2; exec "$@"'
        return ["sh", "-c", join, "sh", self.memory, self.processor, *command]

    def oom_kills(self) -> int:
        """How many processes of the group were killed for want of memory."""
        file = self.memory / ("memory.events" if self.is_v2 else "memory.oom_control")
        return _field(file, "oom_kill")

    def throttled_periods(self) -> int:
        """In how many tenths of a second the share of the processor was used up."""
        return _field(self.processor / "cpu.stat", "nr_throttled")

    def held_bytes(self) -> int:
        """What the processes of the group hold now, without what the kernel can drop at any time."""
        return _field(self.memory / "memory.stat", "anon" if self.is_v2 else "total_rss")

    def process_ids(self) -> list[int]:
        """The processes of the group."""
        return [int(line) for line in (self.memory / "cgroup.procs").read_text().split()]


def _field(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == name)


@contextmanager
def control_group(memory_bytes: int, processors: float) -> Iterator[ControlGroup]:
    """A new group, removed at the end. Skips the test where none can be made; fails it where CI=true."""
    name = f"cubequeue-test-{secrets.token_hex(6)}"
    is_v2 = (MOUNT / "cgroup.controllers").exists()
    group = ControlGroup(
        MOUNT / name if is_v2 else MOUNT / "memory" / name, MOUNT / name if is_v2 else MOUNT / "cpu" / name, is_v2
    )
    try:
        try:
            _make(group, memory_bytes, processors)
        except OSError as error:
            require(False, f"the right to make a control group: {error}")
        yield group
    finally:
        for folder in {group.memory, group.processor}:
            _remove(folder)


def _make(group: ControlGroup, memory_bytes: int, processors: float) -> None:
    quota = str(int(_PERIOD_US * processors))
    if group.is_v2:
        with contextlib.suppress(OSError):  # they may be on already, and then only for others to change
            (MOUNT / "cgroup.subtree_control").write_text("+memory +cpu")
        group.memory.mkdir()
        (group.memory / "memory.max").write_text(str(memory_bytes))
        with contextlib.suppress(OSError):  # a machine without swap has no such file
            (group.memory / "memory.swap.max").write_text("0")
        (group.processor / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        return
    group.memory.mkdir()
    group.processor.mkdir()
    (group.memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
    with contextlib.suppress(OSError):
        (group.memory / "memory.memsw.limit_in_bytes").write_text(str(memory_bytes))
    (group.processor / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
    (group.processor / "cpu.cfs_quota_us").write_text(quota)


def _remove(folder: Path) -> None:
    """A group can go once its last process has: the kernel may need a moment for that."""
    until = time.monotonic() + 5.0
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
