"""The bench measures what it says: its statements do their work, its verdicts are right, its page shows its record."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import plans, throughput
from bench.__main__ import PARTS
from bench.prober import INTERVAL_S, percentile, with_missed
from bench.record import Line, Target, line, read, show, write
from bench.report import BEGIN, END, plot, write_report
from protocol.arrow import encode_arrow
from protocol.client_codec import ErrorReply, decode_reply
from protocol.commands import parse_statement
from protocol.decode import decode_request
from protocol.encode import encode_result
from protocol.messages import ResponseFormat
from storage.asking import ANYBODY
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Result
from tests.asking import Told

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize("name", plans.CYCLES)
def test_every_step_of_a_cycle_is_answered_with_what_it_asks_for(name: str) -> None:
    store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(1).random, Told)
    steps = plans.CYCLES[name]()
    for cycle in range(3):
        for step in steps:
            message = plans.ws_message(step)
            assert message.count(plans.KEY) <= 1, "load.c puts the key of a cycle into one place"
            request = decode_request(message.replace(plans.KEY, b"%032d" % cycle))
            assert request.connection_id == plans.CONNECTION_ID
            outcome = store.execute(parse_statement(request.query, request.parameters), ANYBODY, None, NOW_MS)
            assert isinstance(outcome, Result), step.name
            is_arrow = request.response_format == ResponseFormat.ARROW
            reply = (encode_arrow if is_arrow else encode_result)(1, outcome)
            assert not isinstance(decode_reply(reply), ErrorReply)
            assert len(reply) >= step.min_reply_bytes, step.name
    assert not store.queue.items, "a cycle leaves nothing behind"


@pytest.mark.parametrize("name", plans.CYCLES)
def test_redis_is_given_the_same_steps(name: str) -> None:
    steps = plans.CYCLES[name]()
    lines = plans.resp_plan(steps).splitlines()
    assert lines[0] == "resp"
    assert [each.split()[0] for each in lines[1:]] == [step.name for step in steps]
    scripts = {plans.lua(path.stem)[1] for path in plans.LUA.glob("*.lua")}
    assert all(step.redis[1] in scripts for step in steps if step.redis[0] == b"EVALSHA")


def test_a_line_is_judged_by_its_targets() -> None:
    good = line("part", "name", {"ratio": 0.9, "ms": 2.0}, Target("ratio", "≥", 0.85), Target("ms", "≤", 2))
    bad = line("part", "name", {"ratio": 0.84, "ms": 2.1}, Target("ratio", "≥", 0.85), Target("ms", "≤", 2))
    assert (good.missed, bad.missed) == ([], ["ratio ≥ 0.85", "ms ≤ 2"])
    assert show(good).endswith("met")
    assert "MISSED ratio ≥ 0.85, ms ≤ 2" in show(bad)


def test_targets_name_cycles_and_figures_that_exist() -> None:
    for (name, shape), targets in throughput.TARGETS.items():
        assert name in PARTS
        assert shape in throughput.FULL
        quick = (*throughput.QUICK, *throughput.QUICK_MORE.get(name, ()))
        assert shape in quick, "the quick record judges the same"
        assert all(target.figure in {"of_redis", "of_echo", "p50_ms", "p99_ms"} for target in targets)


def test_while_one_is_late_others_would_have_been() -> None:
    assert with_missed(INTERVAL_S / 2) == [INTERVAL_S / 2]
    late = with_missed(10 * INTERVAL_S)
    assert len(late) == 11
    assert late[0] == 10 * INTERVAL_S
    assert late[-1] == pytest.approx(0)
    assert percentile([*range(1, 101)], 0.99) == 100
    assert percentile([5.0], 0.99) == 5.0


def record() -> list[Line]:
    ours = {"per_s": 40_000.0, "p50_ms": 0.2, "of_redis": 0.9, "redis_per_s": 44_000.0, "echo_per_s": 60_000.0}
    return [
        line("throughput", "life cycle, 16 × 1", ours, Target("of_redis", "≥", 0.85)),
        line("throughput", "small & <odd>", {**ours, "of_redis": 0.5}, Target("of_redis", "≥", 0.85)),
        line("growth", "waiters", {"mib_of_100000": 57.0}),
    ]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write(path, {"cores": "2"}, record())
    assert read(path) == ({"cores": "2"}, record())


def test_the_page_shows_the_record_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\nend\n")
    for _ in range(2):
        write_report(page, {"processor": "some"}, record())
    text = page.read_text()
    assert text.startswith("# Title")
    assert text.endswith("end\n")
    assert "old" not in text
    assert text.count("| waiters | 57 |") == 1
    assert "1 of 2 lines with a target meet it. Missed: small & <odd> (of_redis ≥ 0.85)." in text
    assert (tmp_path / "performance.svg").exists()


def test_lines_with_other_figures_have_a_table_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}{END}")
    throughput = line("durability", "a", {"per_s": 1.0, "of_memory": 0.5})
    turns = line("durability", "b", {"longest_ms": 3.0}, Target("longest_ms", "≤", 5))
    write_report(page, {}, [throughput, turns])
    rows = page.read_text().splitlines()
    assert "| a | 1 | 0.5 |" in rows
    assert "| b | 3 | longest_ms ≤ 5 |" in rows


def test_the_plot_is_an_svg_with_a_bar_for_each_server() -> None:
    root = ET.fromstring(plot(record()))
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("x") == "420"]
    lengths = [float(each.get("width") or 0) for each in bars if each.get("height") == "6"]
    assert len(lengths) == 6
    assert lengths[0] > lengths[1] > lengths[2] > 0, "echo, Redis, cubequeue"
    assert ET.fromstring(plot([])).tag.endswith("svg")
