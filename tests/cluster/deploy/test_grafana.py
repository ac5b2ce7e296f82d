"""The dashboard shows what the code measures: no more, no less."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.report.telemetry import METRICS
from tests.cluster.metrics import exported

FILE = Path(__file__).resolve().parents[3] / "cluster" / "deploy" / "grafana" / "lingua.json"
OWN_LABELS = {"run", "worker"}
FROM_RAY = {"ray_node_gpus_utilization"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_it_asks_for_all_metrics_of_the_code_and_for_no_others(dashboard: dict[str, Any]) -> None:
    asked = {name for query in queries(dashboard) for name in re.findall(r"\bray_\w+", query)}
    assert asked - FROM_RAY == {exported(metric) for metric in METRICS}


def test_what_it_asks_of_ray_itself_is_there() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES  # not while tests are collected: a second

    assert {f"ray_{name}" for name in METRICS_GAUGES} >= FROM_RAY


def test_it_groups_by_labels_that_the_metrics_have(dashboard: dict[str, Any]) -> None:
    labels = {exported(metric): OWN_LABELS | set(metric.labels) for metric in METRICS}
    for query in queries(dashboard):
        names = set(re.findall(r"\bray_\w+", query)) - FROM_RAY
        grouped = {label for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(", ")}
        selected = set(re.findall(r"\{(\w+)=~", query))
        assert all(grouped | selected <= labels[name] for name in names), query


def test_only_counters_are_asked_for_their_rate(dashboard: dict[str, Any]) -> None:
    rated = {name for query in queries(dashboard) for name in re.findall(r"rate\((ray_\w+)", query)}
    assert rated <= {exported(metric) for metric in METRICS if metric.kind == "counter"}


def test_panels_do_not_overlap_and_have_numbers_of_their_own(dashboard: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert place["x"] + place["w"] <= 24
        cells |= own
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_its_variables_are_those_that_it_uses(dashboard: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"]))) - {"__rate_interval"}
    assert used == defined
