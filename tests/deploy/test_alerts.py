"""The alerts ask for metrics that exist, by labels that they have, and each leads to a page that is there.

`make lint-deploy` has promtool check their form and play tests/deploy/alerts_test.yaml.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from tests.deploy.charts import CHART, rendered
from tests.docs.blocks import ROOT
from tests.metrics.test_exposition import documented

ALERTS: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
METRICS: Final = {row.name: row for row in documented()}
SUFFIXES: Final = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
# What Prometheus, the kubelet and kube-state-metrics say.
FOREIGN: Final = {
    "container_memory_working_set_bytes",
    "container_spec_memory_limit_bytes",
    "kube_pod_status_ready",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "up",
}
OF_THE_SCRAPE: Final = {"job", "instance", "namespace", "pod", "container", "persistentvolumeclaim", "condition", "le"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_it_asks_for_what_exists(alert: dict[str, Any]) -> None:
    known = {name + suffix: row for name, row in METRICS.items() for suffix in SUFFIXES[row.type]}
    asked = re.findall(r"\b((?:[a-z]+_)+[a-z]+|up)\b(?=[{\[ )]|$)(?:\{([^}]*)\})?", alert["expr"])
    names = {name for name, _ in asked} - {"histogram_quantile"}
    assert names
    assert names - FOREIGN <= set(known)
    labels = {label for name in names if name in known for label in known[name].labels} | OF_THE_SCRAPE
    for _, matchers in asked:
        assert set(re.findall(r"(\w+)\s*(?:=~|=|!=|!~)", matchers)) <= labels
    for grouped in re.findall(r"by \(([^)]*)\)", alert["expr"]):
        assert set(re.split(r",\s*", grouped)) <= labels
    texts = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_its_page_is_there_and_names_it(alert: dict[str, Any]) -> None:
    assert (ROOT / "docs" / alert["annotations"]["runbook"]).is_file()
    page = re.escape(alert["annotations"]["runbook"])
    row = rf"^\| `{alert['alert']}` \| {alert['labels']['severity']} \| .*\({page}\)"
    assert re.search(row, (ROOT / "docs/alerts.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_chart_makes_links_of_the_pages() -> None:
    rule = rendered("metrics.prometheusRule.enabled=true", "metrics.prometheusRule.docsUrl=https://d/x/")
    (group,) = rule["PrometheusRule"]["spec"]["groups"]
    for made, alert in zip(group["rules"], ALERTS, strict=True):
        page = alert["annotations"]["runbook"].removesuffix(".md")
        annotations = {name: text for name, text in alert["annotations"].items() if name != "runbook"}
        assert made == {**alert, "annotations": {**annotations, "runbook_url": f"https://d/x/{page}/"}}
