"""The Prometheus text: what it says, that docs/metrics.md says the same, and that its labels are bounded."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import NamedTuple

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.limits import Limit
from cubequeue_server.observe.metrics import families
from cubequeue_server.observe.metrics.exposition import Exposition
from cubequeue_server.observe.metrics.histograms import queue_histograms
from cubequeue_server.observe.metrics.sources import MAX_DEEPEST_QUEUES, Deepest, Sources, label
from storage.stats import MAX_NAMED, QueueFigures
from storage.vocabulary import QueueAdd, QueueRetrieve
from tests.cli.running import serving
from tests.docs.blocks import ROOT
from tests.metrics.scenery import JOURNAL, Scene, busy_scene

LIMITS = [Limit("items", 3, 10, "items", "CUBEQUEUE_QUEUE_MAX_ITEMS")]


def expose(sources: Sources) -> str:
    async def text() -> bytes:
        totals = await sources.queue_totals()
        text = Exposition(sources).text(await sources.queues(), totals, LIMITS)
        return b"".join([text, *queue_histograms(totals)])

    return asyncio.run(text()).decode()


def parse(text: str) -> dict[str, Metric]:
    """Families by their full name, the `_total` of counters included."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }


def value(text: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name} with {labels}")


class Documented(NamedTuple):
    """A row of docs/metrics.md."""

    name: str
    type: str
    labels: set[str]
    meaning: str


def documented() -> Iterator[Documented]:
    for line in (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| `((?:cubequeue|process)_\w+)` \| (\w+) \| (.*) \| (.*) \|", line)
        if row is not None:
            yield Documented(row[1], row[2], set(re.findall(r"`(\w+)`", row[3])), row[4])


@pytest.fixture(scope="module")
def text() -> str:
    return expose(busy_scene().sources)


def test_the_documentation_and_the_exposition_are_the_same(text: str) -> None:
    rows = list(documented())
    exposed = parse(text)
    assert sorted(row.name for row in rows) == sorted(exposed)
    for row in rows:
        family = exposed[row.name]
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert (row.type, row.labels, row.meaning) == (family.type, labels, family.documentation)


def test_every_number_is_exposed(text: str) -> None:
    sources = busy_scene().sources
    values = sources.values()
    assert not {each.name for each in fields(Counters)} & set(sources.store.gauges()), "two numbers of one name"
    rows = (*families.TOTALS, *families.GAUGES)
    assert len({row.source for row in rows}) == len(rows)
    assert {row.source for row in rows} | families.SHOWN_BY_QUEUE == set(values)
    for row in rows:
        assert value(text, row.name, **dict([row.label] if row.label else [])) == values[row.source]


def test_figures_of_a_queue(text: str) -> None:
    assert value(text, "cubequeue_queue_items", queue="q", state="pending") == 2
    assert value(text, "cubequeue_queue_items", queue="q", state="active") == 1
    assert value(text, "cubequeue_queue_oldest_pending_seconds", queue="q") == 3.5
    assert value(text, "cubequeue_queue_oldest_heartbeat_seconds", queue="q") == 2
    assert value(text, "cubequeue_queue_added_total", queue="q") == 5
    assert value(text, "cubequeue_queue_claimed_total", queue="q") == 3
    assert value(text, "cubequeue_queue_waited_seconds_total", queue="q") == 4.5
    ended = {
        reason: value(text, "cubequeue_queue_ended_total", queue="q", reason=reason)
        for reason in ("acknowledged", "error", "expired", "stalled", "orphaned", "manual")
    }
    assert ended == {"acknowledged": 1, "error": 0, "expired": 0, "stalled": 1, "orphaned": 0, "manual": 0}


def test_durations_of_a_command(text: str) -> None:
    name, labels = "cubequeue_command_seconds", {"family": "queue", "command": "add"}
    assert value(text, f"{name}_count", **labels) == 5
    assert value(text, f"{name}_sum", **labels) == 0.000025
    assert value(text, f"{name}_bucket", le="4.096e-06", **labels) == 0
    assert value(text, f"{name}_bucket", le="1.6384e-05", **labels) == 5
    assert value(text, f"{name}_bucket", le="+Inf", **labels) == 5


def test_what_the_process_and_the_journal_say(text: str) -> None:
    assert value(text, "process_resident_memory_bytes") > 1_000_000
    assert value(text, "cubequeue_journal_lag") == JOURNAL["journal_lag"]
    assert value(text, "cubequeue_requests_in_flight") == 3


def test_labels_are_bounded_and_nothing_is_lost_beyond() -> None:
    scene = Scene()
    queues = 3 * MAX_DEEPEST_QUEUES
    for number in range(queues):
        scene.run(*(QueueAdd(b"q%d:%d" % (number, item), b"") for item in range(1 + number % 3)))
    text = expose(scene.sources)
    for name, most in (
        ("cubequeue_queue_items", MAX_DEEPEST_QUEUES),
        ("cubequeue_queue_added_total", MAX_NAMED),
    ):
        samples = parse(text)[name].samples
        assert len({sample.labels["queue"] for sample in samples}) == most + 1
        assert sum(sample.value for sample in samples) == 2 * queues
    assert value(text, "cubequeue_queue_items", queue="q2", state="pending") == 3
    assert len(text) < 200_000


def test_the_rest_is_one_queue() -> None:
    queues = [QueueFigures(b"%d" % depth, depth, 1, depth * 10, None) for depth in (1, 5, 2, 3)]
    for most, expected in (
        (4, ["5", "3", "2", "1"]),
        (1, ["5", "other"]),
    ):
        at_once, bit_by_bit = Deepest(most), Deepest(most)
        at_once.add(queues)
        for queue in queues:
            bit_by_bit.add([queue])
        assert at_once.labelled() == bit_by_bit.labelled()
        assert [name for name, _ in at_once.labelled()] == expected
    assert at_once.labelled()[1] == ("other", QueueFigures(b"", 6, 3, 30, None))


@pytest.mark.parametrize("prefix", [b"other", b'\xff\n"\\', b"x" * 100_000, b""])
def test_any_prefix_is_a_label(prefix: bytes) -> None:
    scene = Scene()
    scene.run(QueueAdd(prefix + b":key", b""))
    text = expose(scene.sources)
    assert len(text) < 25_000
    assert label(prefix) != "other"
    assert value(text, "cubequeue_queue_added_total", queue=label(prefix)) == 1


def test_long_prefixes_stay_different() -> None:
    assert len({label(b"x" * 300 + b"%d" % number) for number in range(100)}) == 100


def test_scrapes_of_a_real_server() -> None:
    with serving("--durability", "memory") as server:
        for _ in range(2):
            status, body = server.get("/metrics")
            assert status == 200
            assert value(body.decode(), "cubequeue_connections") == 0
        assert "cubequeue_build_info" in parse(body.decode())


def test_histograms_of_a_queue(text: str) -> None:
    buckets = {
        bound: value(text, "cubequeue_queue_wait_seconds_bucket", queue="q", le=bound)
        for bound in ("0.002", "1.024", "2.048", "8388.608", "+Inf")
    }
    assert buckets == {"0.002": 0, "1.024": 0, "2.048": 3, "8388.608": 3, "+Inf": 3}
    assert value(text, "cubequeue_queue_wait_seconds_sum", queue="q") == 4.5
    assert value(text, "cubequeue_queue_run_seconds_count", queue="q") == 1


def test_a_hostile_name_of_a_queue_is_escaped() -> None:
    scene = Scene()
    hostile = b'a"b\\c\nd'
    scene.run(QueueAdd(hostile + b":k", b"x"), QueueRetrieve(hostile + b":k", 9))
    assert value(expose(scene.sources), "cubequeue_queue_wait_seconds_count", queue=hostile.decode()) == 1


def test_limits_and_readiness() -> None:
    sources = busy_scene().sources
    text = expose(sources)
    assert value(text, "cubequeue_limit", limit="items") == 10
    assert value(text, "cubequeue_limit_used", limit="items") == 3
    assert value(text, "cubequeue_ready", reason="") == 1
    refused = Exposition(sources).text([], {}, (), "refused: the disk is full").decode()
    assert value(refused, "cubequeue_ready", reason="refused: the disk is full") == 0


def test_a_scrape_is_compressed_for_one_who_asks() -> None:
    with serving("--durability", "memory") as server:
        connection = http.client.HTTPConnection(*server.status, timeout=10)
        connection.request("GET", "/metrics", headers={"accept-encoding": "deflate, gzip"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.getheader("content-encoding") == "gzip"
        assert b"cubequeue_limit{" in gzip.decompress(body)
        assert b"cubequeue_limit{" in server.get("/metrics")[1]
