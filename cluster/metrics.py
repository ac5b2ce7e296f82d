"""What can be measured of a run while it goes on: the metrics by name, and the `Metrics` that takes their values.

The names are those of `cluster/deploy/grafana/lingua.json`; Ray puts ``ray_`` before them, and ``_total`` behind
counters. `cluster.pool.RayMetrics` hands them to Ray, which offers them to Prometheus; without Ray nobody listens
(`NoMetrics`). Every metric has the labels `run` (the output's name) and `worker`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter that only grows, or a gauge; `labels` beside `run` and `worker`."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        return f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}"


ROWS = Metric("lingua_rows", "counter", "Rows that have their outcome, by status.", ("status",))
REJECTS = Metric("lingua_rejects", "counter", "Rejected rows, by reason.", ("reason",))
ORIGIN_TOKENS = Metric("lingua_origin_tokens", "counter", "Tokens of the rows before compression.")
COMPRESSED_TOKENS = Metric("lingua_compressed_tokens", "counter", "Tokens of the rows after compression.")
BUSY = Metric("lingua_busy_share", "gauge", "Share of the worker's time in which its device computed.")
PLANNED = Metric("lingua_planned_shards", "gauge", "Shards of the whole corpus.")
QUEUE = Metric("lingua_queued_shards", "gauge", "Shards that are not committed yet.")
WORKERS = Metric("lingua_workers", "gauge", "Workers that are ready or busy.")
FAILURES = Metric("lingua_failed_attempts", "gauge", "Attempts of this run that failed.")
METRICS = (ROWS, REJECTS, ORIGIN_TOKENS, COMPRESSED_TOKENS, BUSY, PLANNED, QUEUE, WORKERS, FAILURES)


class Metrics(Protocol):
    """Takes values: of a counter what it grew by, of a gauge what it is."""

    def record(self, metric: Metric, value: float, **labels: str) -> None: ...


class NoMetrics:
    """Metrics that nobody reads."""

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Takes no notice."""
