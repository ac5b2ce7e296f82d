"""What Prometheus sees of the job's metrics."""

from __future__ import annotations

from cluster.report.telemetry import Metric


def exported(metric: Metric) -> str:
    """The name that Ray gives a metric."""
    return f"ray_{metric.name}_total" if metric.kind == "counter" else f"ray_{metric.name}"
