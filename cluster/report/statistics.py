"""What a run did: `RunReport`, its summary for people, and what `finish` leaves beside the output.

The rows are committed by then: what goes wrong with the report is said and changes nothing else.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cluster.config import JobConfig
from cluster.errors import AbortRun, ClusterError
from cluster.input.schema import UNPLANNED
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import Statistics
from cluster.protocol import Failure

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "ray", "pyarrow", "fsspec")


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one run over an output."""

    planned: int  # shards of the whole corpus
    total: Statistics  # statistics over every committed shard, whoever committed it
    this_run: Statistics  # statistics over what this run did itself; `seconds` is its time on the clock
    seconds: float
    # how often attempts failed, by reason; retried ones included
    failures: Mapping[str, int] = field(default_factory=dict)
    # shards that could not be brought to an end, with the last failure
    given_up: Mapping[str, Failure] = field(default_factory=dict)
    stopped: str | None = None  # why the run ended before everything was tried, or None
    refused: bool = False  # whether that is because too many rows are rejected
    packing: Sequence[str] = ()  # how the workers' models ran, such as why one ran row by row

    @property
    def complete(self) -> bool:
        """Every planned shard is committed and nothing objected."""
        return self.total.shards >= self.planned and not self.given_up and self.stopped is None

    @property
    def tokens_per_second(self) -> float:
        """Original tokens this run worked off per second on the clock, reused ones not counted."""
        return self.this_run.computed_tokens / self.seconds if self.seconds > 0 else 0.0

    def as_json(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The content of `_stats.json`; `settings` holds what identifies the run (configuration, model, versions)."""
        return {
            "complete": self.complete,
            "planned_shards": self.planned,
            **self.total.as_json(),
            "last_run": {
                "shards": self.this_run.shards,
                "rows": self.this_run.rows,
                "seconds": round(self.seconds, 3),
                "tokens_per_second": round(self.tokens_per_second, 1),
                "failures": dict(sorted(self.failures.items())),
                "given_up": {name: failure.detail for name, failure in sorted(self.given_up.items())},
                "stopped": self.stopped,
                "model": list(self.packing),
            },
            **settings,
        }

    @property
    def unrecorded(self) -> int:
        """Shards neither given up nor counted; unless the run was stopped, their record is gone or damaged."""
        return self.planned - self.total.shards - len(self.given_up)

    def summary(self, unsampled: str | None = None) -> str:
        """The last words of a run, for people; `unsampled` says why there can be no fidelity sample."""
        from cluster.report.page import environment  # heavy, and of no use before the end

        template = environment(Path(__file__).parent).get_template("summary.txt.jinja")
        return str(template.render(report=self, unsampled=unsampled, unplanned=UNPLANNED)).rstrip()


class TooManyRejects(AbortRun):
    """More rows are rejected than `max_rejected` allows."""


def finish(config: JobConfig, ledger: Ledger, plan: Plan, report: RunReport) -> None:
    """Put `_stats.json`, then `_report.html`. A stopped run has no time for a report."""
    ledger.write_stats(report.as_json(facts(config, plan)))
    if report.stopped:
        return
    from cluster.report.page import gather, render  # heavy, and of no use to a run that is stopped

    try:
        ledger.write_report(render(gather(ledger)))
    except (ClusterError, OSError, ValueError) as error:
        print(f"warning: no report was written ({error}); python -m jobs.report {ledger.url} makes it")


def facts(config: JobConfig, plan: Plan) -> dict[str, Any]:
    """What `_stats.json` says of how a run was made, beside its figures."""
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(PACKAGES)}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "settings": config.shown_settings(),
        "model": plan.identity.model,
        "model_digest": plan.identity.model_digest,
        "identity": plan.identity.digest(),
        "versions": versions,
    }
