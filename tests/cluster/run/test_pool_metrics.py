"""Metrics through a real Ray: what an actor records is what Prometheus would read, under the dashboard's names."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import ray

from cluster.report.telemetry import METRICS
from cluster.run.pool import RayMetrics, session

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture
def local_ray() -> Iterator[None]:
    with session():
        yield


def record_all(metrics: RayMetrics) -> None:
    """Every metric once a second, for longer than Ray waits between two exports."""
    for _ in range(4):
        for metric in METRICS:
            metrics.record(metric, 2.0, **dict.fromkeys(metric.labels, "some"))
        time.sleep(1)


def scraped(wanted: int) -> str:
    """The page that Prometheus reads on this machine, once `wanted` of our metrics are on it."""
    port = ray.nodes()[0]["MetricsExportPort"]
    deadline, text = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            pass
        if len(set(re.findall(r"^ray_lingua_\w+", text, re.MULTILINE))) >= wanted:
            return text
        time.sleep(0.5)
    pytest.fail(f"only these were exported: {re.findall(r'^ray_lingua_.*', text, re.MULTILINE)}")


def test_ray_exports_every_metric_under_its_name_with_run_and_worker(local_ray: None) -> None:
    task = ray.remote(num_cpus=0)(record_all).remote(RayMetrics("compressed"))
    text = scraped(len(METRICS))
    ray.get(task)
    for metric in METRICS:
        (line, *_) = re.findall(rf"^{metric.exported}{{.*", text, re.MULTILINE)
        assert 'run="compressed"' in line
        assert re.search(r'worker="[^"]+:\d+"', line)
        assert all(f'{label}="some"' in line for label in metric.labels)
