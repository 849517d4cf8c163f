"""A journal cut short anywhere holds the state after some whole group, and the very group that its bytes end with.

A real directory is left behind by a random walk; its log is cut at the end of each record and within, its tail
replaced by zeros, bytes in its middle flipped. CRASH_SEED plays a walk again.
"""

from __future__ import annotations

import os
import shutil
import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from storage.journal.errors import JournalError
from tests.crash.walk import Commit, State, Walk, state_in, walk

SEED = int(os.environ.get("CRASH_SEED") or Random().randrange(1 << 32))


def with_log(walked: Walk, directory: Path, log: bytes) -> Path:
    """The directory of a walk with another log."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(walked.directory, directory, ignore=lambda _, names: [n for n in names if n.endswith(".log")])
    (directory / walked.log.name).write_bytes(log)
    return directory


def fragments(log: bytes) -> list[int]:
    """Where the fragments of a log begin."""
    starts, position = [], 0
    while position + 7 <= len(log):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        starts.append(position)
        position += 7 + struct.unpack_from("<H", log, position + 4)[0]
    return starts


def expected_at(commits: list[Commit], length: int) -> State:
    """The state of the last group that is wholly within so many bytes."""
    return commits[max(0, bisect_right([commit.log_bytes for commit in commits], length) - 1)].state


def check_cuts(walked: Walk, cuts: list[int], scratch: Path, random: Random) -> None:
    log = walked.log.read_bytes()
    assert walked.commits[-1].log_bytes == len(log)
    ever_kept = walked.ever_kept
    for cut in cuts:
        state = state_in(with_log(walked, scratch, log[:cut]))
        wrong = state.differs_from(expected_at(walked.commits, cut), ever_kept)
        assert not wrong, f"cut at {cut} of {len(log)}, seed {SEED}: {wrong}"
        zeros = bytes(random.choice([1, 6, 7, 500, len(log) - cut + 100]))
        state = state_in(with_log(walked, scratch, log[:cut] + zeros))
        # The cut-off bytes may have been zeros as well: then the group is there all the same.
        whole = cut + next((n for n, byte in enumerate(log[cut : cut + len(zeros)]) if byte), len(zeros))
        wrong = state.differs_from(expected_at(walked.commits, whole), ever_kept)
        assert not wrong, f"zeros from {cut} of {len(log)}, seed {SEED}: {wrong}"


def flips(log: bytes, commits: list[Commit], random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Logs with damage ahead of the last record."""
    last = max(commit.log_bytes for commit in commits if commit.log_bytes < len(log))
    starts = [start for start in fragments(log) if start < last]
    for number in range(count):
        damaged = bytearray(log)
        match number % 4:
            case 0:
                at = random.randrange(last)
                damaged[at] ^= 1 << random.randrange(8)
            case 1:  # headers are few bytes among many
                at = random.choice(starts) + random.randrange(7)
                damaged[at] ^= 1 << random.randrange(8)
            case 2:
                at = random.choice(starts)
                damaged[at : at + 7] = bytes(7)
            case _:
                at = random.randrange(last) // 512 * 512
                damaged[at : at + 512] = random.randbytes(512) if random.random() < 0.5 else bytes(512)
        padding = is_padding(log, at, starts)
        if bytes(damaged[:last]) != log[:last] and not padding:
            yield f"damage of kind {number % 4} at {at} of {len(log)}, seed {SEED}", bytes(damaged)


def is_padding(log: bytes, at: int, starts: list[int]) -> bool:
    """The last bytes of a block that are too few for a header mean nothing."""
    before = max((start for start in starts if start <= at), default=0)
    end: int = before + 7 + struct.unpack_from("<H", log, before + 4)[0]
    return at >= end


def contents(directory: Path) -> dict[str, bytes]:
    """All files but those in which RocksDB tells what it did."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith("LOG")}


def check_damage(walked: Walk, count: int, scratch: Path, random: Random) -> None:
    log = walked.log.read_bytes()
    for what, damaged in flips(log, walked.commits, random, count):
        directory = with_log(walked, scratch, damaged)
        before = contents(directory)
        with pytest.raises(JournalError) as refusal:
            state_in(directory)
        assert "\n" not in str(refusal.value), what
        assert str(directory) in str(refusal.value), what
        after = contents(directory)
        changed = [name for name in before if after.get(name) != before[name]]
        assert not changed, what


def test_every_cut_leaves_the_state_of_a_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"CRASH_SEED={SEED}")
    random = Random(SEED)
    walked = walk(tmp_path / "journal", SEED, 150, monkeypatch)
    length = walked.commits[-1].log_bytes
    ends = [commit.log_bytes for commit in random.sample(walked.commits, 12)]
    cuts = [0, 1, *ends, *(random.randrange(length) for _ in range(12)), length]
    check_cuts(walked, cuts, tmp_path / "scratch", random)


def test_damage_ahead_of_whole_groups_is_refused_and_nothing_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"CRASH_SEED={SEED}")
    walked = walk(tmp_path / "journal", SEED, 150, monkeypatch)
    check_damage(walked, 60, tmp_path / "scratch", Random(SEED))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak_every_record_of_many_walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"CRASH_SEED={SEED}")
    for number in range(int(os.environ.get("CRASH_WALKS") or 3)):
        random = Random(SEED + number)
        walked = walk(tmp_path / f"journal{number}", SEED + number, 400, monkeypatch)
        log = walked.log.read_bytes()
        starts = fragments(log)
        inside = [min(start + random.choice([1, 4, 6, 7, 15, 19, 200]), len(log)) for start in starts]
        check_cuts(walked, [*starts, *inside, len(log)], tmp_path / "scratch", random)
        check_damage(walked, 2_000, tmp_path / "scratch", random)
