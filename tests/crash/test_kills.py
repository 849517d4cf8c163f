"""Real server processes, killed at random moments under load: nothing acknowledged is lost, nothing happens twice.

CRASH_SEED draws the same statements and moments again; how they meet is the machine's. CRASH_KILLS is how many kills
the long form takes (docs/durability.md, "How it is proved").
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest
import uvloop

from tests.crash.rounds import WEIGHTS, Rounds, Voice

SEED = os.environ.get("CRASH_SEED") or str(Random().randrange(1 << 32))

KILLS = 5
# Seconds on a quiet machine. A test that is ended by force would leave its server behind: the round gives up earlier.
TIMEOUT_S = 300
ROUND_S = 250.0
MODES = ("relaxed", "strict")
# What is kept for less long, and what gives way earlier, makes the long form's starts quicker: at 64 MiB it takes a
# second to read the answers. Results outlast their round.
SOAK_FLAGS = ("--answers-keep", "30s", "--answers-keep-undelivered", "60s", "--answers-max-size", "32MiB")


def check_kills(directory: Path, mode: str, kills: int, seed: str, *flags: str) -> None:
    print(f"CRASH_SEED={SEED}")
    all_flags = ("--durability", mode, "--queue-results-expire", "300s", *flags)
    rounds = Rounds(directory, all_flags, seed, ROUND_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(rounds.run(kills, kills_a_round=KILLS))
    assert not found, f"CRASH_SEED={SEED}\n" + "\n".join(f"{each.rule}: {each.text}" for each in found[:5])
    assert rounds.tally.operations > 2 * kills
    assert rounds.tally.resent


def test_a_seed_draws_the_same_statements_again() -> None:
    once, again, other = (Voice("c", 1, Random(seed)) for seed in ("one", "one", "two"))
    said = [once.drawer.draw(WEIGHTS) for _ in range(500)]
    assert said == [again.drawer.draw(WEIGHTS) for _ in range(500)]
    assert said != [other.drawer.draw(WEIGHTS) for _ in range(500)]
    assert {type(statement) for statement in said} == set(WEIGHTS)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_kills_lose_nothing_and_repeat_nothing(mode: str, part: int, tmp_path: Path) -> None:
    check_kills(tmp_path / "data", mode, KILLS, f"{SEED} {mode} {part}")


@pytest.mark.soak
@pytest.mark.timeout(86_400)
@pytest.mark.parametrize("mode", MODES)
def test_soak_thousands_of_kills(mode: str, tmp_path: Path) -> None:
    kills = int(os.environ.get("CRASH_KILLS") or 2_000)
    check_kills(tmp_path / "data", mode, kills, f"{SEED} {mode} soak", *SOAK_FLAGS)
