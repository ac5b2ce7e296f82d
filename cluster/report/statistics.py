"""What a run did: `RunReport`, its summary for people, and what `finish` leaves beside the output.

The rows are committed by then: what goes wrong with the report is said and changes nothing else.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.config import JobConfig
from cluster.errors import AbortRun, ClusterError
from cluster.input.schema import UNPLANNED
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import Statistics, counted
from cluster.protocol import Failure

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "ray", "pyarrow", "fsspec")


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one run over an output.

    planned       shards of the whole corpus
    total         statistics over every committed shard, whoever committed it
    this_run      statistics over what this run did itself; `seconds` is its time on the clock
    failures      how often attempts failed, by reason; retried ones included
    given_up      shards that could not be brought to an end, with the last failure
    stopped       why the run ended before everything was tried, or None
    refused       whether that is because too many rows are rejected
    packing       how the workers' models ran, such as why one ran row by row
    """

    planned: int
    total: Statistics
    this_run: Statistics
    seconds: float
    failures: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[str, Failure] = field(default_factory=dict)
    stopped: str | None = None
    refused: bool = False
    packing: Sequence[str] = ()

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

    def summary(self, unsampled: str | None = None) -> str:
        """The last words of a run, for people; `unsampled` says why there can be no fidelity sample."""
        all_ = "the only shard is" if self.planned == 1 else f"all {self.planned:,} shards are"
        why = f" ({self.stopped})" if self.stopped else ""
        lines = [f"Not complete: {self.total.shards} of {self.planned} shards are committed{why}."]
        if self.complete:
            lines = [f"Complete: {all_} committed."]
        lines += [*_figures(self.total), *_fidelity(self.total, unsampled)]
        if self.this_run.shards:
            done = f"{counted(self.this_run.shards, 'shard')}, {counted(self.this_run.rows, 'row')}"
            lines.append(f"  this run   {done} in {self.seconds:,.1f} s ({self.tokens_per_second:,.0f} tokens/s)")
        elif self.complete:
            lines.append("  this run   nothing was left to do")
        return "\n".join([*lines, *self._troubles()])

    def _troubles(self) -> list[str]:
        slow = [f"  model      {how}: slow" for how in self.packing if how.startswith("row by row")]
        lines = [f"  given up   {name}: {failure.detail}" for name, failure in sorted(self.given_up.items())] + slow
        if self.failures:
            lines.insert(0, f"  failures   {_counts(self.failures)}")
        # neither given up nor stopped and yet not counted: their commit record is gone or damaged
        unrecorded = self.planned - self.total.shards - len(self.given_up)
        if unrecorded > 0 and not self.stopped:
            lines.append(f"  no record  {unrecorded} parts: delete those that python -m jobs.verify names")
        if not self.complete:
            lines.append("  The same command again goes on with what is missing.")
        return lines


def _figures(total: Statistics) -> list[str]:
    kept = f", {total.kept:,} kept whole (nothing in them may be cut)" if total.kept else ""
    rate = "" if total.rate is None else f" (rate {total.rate:.3f})"
    over = f", {total.over_budget:,} over budget" if total.over_budget else ""
    relaxed = f", {total.relaxed:,} relaxed" if total.relaxed else ""
    lines = [
        f"  rows       {total.rows:,}: {total.compressed:,} compressed, {total.passthrough:,} passed through"
        f"{kept}{over}{relaxed}, {total.rejected:,} rejected",
        f"  tokens     {total.origin_tokens:,} → {total.compressed_tokens:,}{rate}",
    ]
    if total.reused:
        whole = counted(total.reused_shards, "whole shard")
        lines.append(f"  reused     {total.reused:,} of {counted(total.rows, 'row')}, among them {whole}")
    if total.unplanned:
        lines.append(
            f"  unplanned  {counted(total.unplanned, 'row')} with values that the sample did not show, kept as JSON "
            f"text in the column {UNPLANNED}"
        )
    if total.rejects:
        lines.append(f"  rejects    {_counts(total.rejects)}")
    return lines


def _fidelity(total: Statistics, unsampled: str | None) -> list[str]:
    if total.rows == total.rejected:
        return []
    predicted, sample = total.mean_predicted, f"; no sample: {unsampled}" if unsampled else ""
    if predicted is not None:
        sample = f"; {total.sampled:,} sampled rows predict {predicted:.3f} of their originals"
    return [f"  fidelity   {total.mean_fidelity:.3f} of information, numbers and names kept{sample}"]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))


class TooManyRejects(AbortRun):
    """More rows are rejected than `max_rejected` allows."""


def finish(
    config: JobConfig, ledger: Ledger, plan: Plan, report: RunReport, say: Callable[[str], None] = print
) -> None:
    """Put `_stats.json`, then `_report.html`. A stopped run has no time for a report."""
    ledger.write_stats(report.as_json(facts(config, plan)))
    if report.stopped:
        return
    from cluster.report.page import gather, render  # heavy, and of no use to a run that is stopped

    try:
        ledger.write_report(render(gather(ledger)))
    except (ClusterError, OSError, ValueError) as error:
        say(f"warning: no report was written ({error}); python -m jobs.report {ledger.output} makes it")


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
