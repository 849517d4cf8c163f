"""The dashboard is what Grafana can load, and asks for metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.test_alerts import ALERTS
from tests.docs.blocks import ROOT
from tests.metrics.test_exposition import documented

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/cubequeue.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
PLOTS = [panel for panel in PANELS if panel["type"] != "row"]
METRICS = {row.name: row for row in documented()}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}


def expressions() -> Iterator[str]:
    for panel in PLOTS:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_it_has_what_grafana_wants_of_a_dashboard() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"]
    assert DASHBOARD["title"] == "cubequeue"
    assert "__inputs" not in DASHBOARD  # it can be provisioned from a file
    assert {"from", "to"} == set(DASHBOARD["time"])
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "instance", "queue"]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("panel", PLOTS, ids=lambda panel: panel["title"])
def test_a_plot_has_a_source_targets_and_a_unit(panel: dict[str, Any]) -> None:
    assert panel["type"] == "timeseries"
    assert panel["title"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)


@pytest.mark.parametrize(
    ("title", "alert"),
    [
        ("Loop lag, 99th percentile", "CubequeueLoopLate"),
        ("Errors", "CubequeueErrors"),
        ("Age of the oldest pending item", "CubequeueOldestPending"),
        ("Age of the oldest heartbeat", "CubequeueWorkerSilent"),
        ("File descriptors in use", "CubequeueDescriptorsNearLimit"),
    ],
)
def test_a_threshold_is_that_of_its_alert(title: str, alert: str) -> None:
    (panel,) = (each for each in PLOTS if each["title"] == title)
    (rule,) = (each for each in ALERTS if each["alert"] == alert)
    _, highest = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert highest["value"] == float(rule["expr"].rsplit(">", 1)[1])
    assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "line"}
    assert alert in panel["description"]


def test_descriptions_name_alerts_that_exist() -> None:
    named = {name for panel in PLOTS for name in re.findall(r"\bCubequeue\w+", panel["description"])}
    assert named <= {each["alert"] for each in ALERTS}


def test_everything_of_a_queue_follows_the_variable() -> None:
    for panel in PLOTS:
        for target in panel["targets"]:
            for matchers in re.findall(r"cubequeue_queue_(?:items|oldest_\w+|\w+_total)\{([^}]*)\}", target["expr"]):
                assert 'queue=~"$queue"' in matchers


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_what_exists(expression: str) -> None:
    known = {name + suffix: row for name, row in METRICS.items() for suffix in SUFFIXES[row.type]}
    asked = re.findall(r"\b((?:cubequeue|process)_\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    labels = {"instance", "le"}
    for name, matchers in asked:
        assert name in known
        labels |= known[name].labels
        assert set(re.findall(r"(\w+)\s*(?:=~|=|!=|!~)", matchers)) <= known[name].labels | {"instance"}
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouped)) <= labels
    assert expression.count("(") == expression.count(")")
    for name in re.findall(r"\brate\((\w+)", expression):
        assert known[name].type in {"counter", "histogram"}
