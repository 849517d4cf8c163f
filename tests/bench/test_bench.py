"""The bench measures what it says: its statements do their work, its verdicts are right, its page shows its record."""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import durable, payloads, plans, throughput
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
from storage.keys import first_id
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import CacheSet, Result
from tests.asking import Told

NOW_MS = 1_700_000_000_000


class Asked:
    """The steps of a cycle on a store of their own, as `load.c` sends them."""

    def __init__(self) -> None:
        self.store = MemoryStore(
            QueueLimits(), CacheLimits(), AnswerLimits(), first_id(NOW_MS), random.Random(1).random, Told
        )
        self._item = plans.ITEM

    def ask(self, step: plans.Step, cycle: int, now_ms: int = NOW_MS) -> None:
        """Send a step with the key of a cycle; the answer has to be one to it."""
        message = plans.ws_message(step)
        assert message.count(plans.KEY) <= 1, "load.c puts the key of a cycle into one place"
        request = decode_request(plans.filled_in(message, b"%032d" % cycle, self._item))
        assert (request.connection_id, request.trace) == (plans.CONNECTION_ID, plans.TRACE.encode())
        outcome = self.store.execute(parse_statement(request.query, request.parameters), ANYBODY, None, now_ms)
        assert isinstance(outcome, Result), step.name
        is_arrow = request.response_format == ResponseFormat.ARROW
        reply = (encode_arrow if is_arrow else encode_result)(1, outcome)
        assert not isinstance(decode_reply(reply), ErrorReply)
        assert len(reply) >= step.min_reply_bytes, step.name
        if step.gives_id:
            ((id_, *_),) = outcome.rows
            assert isinstance(id_, bytes)
            assert re.findall(rb"(?<!\d)\d{16}(?!\d)", reply) == [id_], "load.c takes the only number of 16 digits"
            self._item = int(id_)


@pytest.mark.parametrize("name", plans.CYCLES)
def test_every_step_of_a_cycle_is_answered_with_what_it_asks_for(name: str) -> None:
    asked, steps = Asked(), plans.CYCLES[name]()
    once = [step for step in steps if step.is_once]
    for step in once:
        asked.ask(step, 0)
    before = len(asked.store.queue.items)
    for cycle in range(3):
        for step in steps[len(once) :]:
            asked.ask(step, 0 if once else cycle)
    assert len(asked.store.queue.items) == before, "a cycle leaves nothing behind"


def test_the_heartbeat_of_an_active_item_finds_it() -> None:
    asked, (add, retrieve, heartbeat) = Asked(), plans.heartbeat_of_active()
    asked.ask(add, 0)
    asked.ask(retrieve, 0)
    asked.ask(heartbeat, 0, NOW_MS + 5)
    (item,) = asked.store.queue.items.by_id.values()
    assert (item.active, item.heartbeat_ms) == (True, NOW_MS + 5)


def test_the_life_cycle_of_the_newest_driver_sends_the_values_of_ack_as_parameters() -> None:
    requests = [decode_request(plans.ws_message(step)) for step in plans.life_cycle_with_parameters()]
    assert [request.parameters for request in requests] == [None, None, (plans.ITEM, payloads.ANSWER), None]
    assert {request.response_format for request in requests} == {ResponseFormat.ARROW}


def test_steps_that_fill_a_store_leave_no_answers_behind() -> None:
    for step in (*plans.add_only(100), *plans.prefix_only()):
        assert decode_request(plans.ws_message(step)).connection_id is None


@pytest.mark.parametrize("size_bytes", [1_500, 2_048, 2_049, 2_050, 2_051, 100_000])
def test_a_payload_is_json_around_sql_of_several_lines(size_bytes: int) -> None:
    work = payloads.payload(size_bytes)
    assert size_bytes - 3 <= len(work) <= size_bytes
    body = json.loads(work)
    assert [body["query"]["query"]] * 3 == [
        key[0] for key in (body["query"]["queryKey"], body["queryKey"], body["stageQueryKey"])
    ]
    assert body["query"]["query"].count("\n") >= 4


def test_a_payload_has_as_many_escapes_as_those_of_deployments() -> None:
    """QUEUE ADDs of deployments with about 2 KB of payload have 230 to 275: a third of them backslashes."""
    escapes = re.findall(rb"\\.", payloads.sqlstring(payloads.payload(2048)))
    assert 230 <= len(escapes) <= 275
    assert 60 <= escapes.count(b"\\\\") <= 110
    assert escapes.count(b"\\'") >= 20


@pytest.mark.parametrize("size_bytes", [64, 100, 1_024, 5 << 20])
def test_a_value_of_the_cache_is_json_of_its_size(size_bytes: int) -> None:
    value = payloads.cached(size_bytes)
    assert len(value) == size_bytes
    assert json.loads(value)["result"] or size_bytes == 64


@given(st.text())
def test_a_literal_means_the_text_that_it_was_made_of(text: str) -> None:
    statement = parse_statement(b"CACHE SET 'k' " + payloads.sqlstring(text.encode()), None)
    assert isinstance(statement, CacheSet)
    assert statement.value == text.encode()


@pytest.mark.parametrize("name", plans.CYCLES)
def test_redis_is_given_the_same_steps(name: str) -> None:
    steps = plans.CYCLES[name]()
    lines = plans.resp_plan(steps).splitlines()
    assert lines[0] == f"resp {sum(step.is_once for step in steps)}"
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
    measured = {each.cycle: each for each in durable.MEASURED}
    assert measured.keys() <= plans.CYCLES.keys()
    for (name, mode, shape), target in durable.TARGETS.items():
        assert mode in dict(measured[name].modes)
        assert shape in measured[name].full
        assert shape in durable.QUICK
        assert target.figure == "of_memory"


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
