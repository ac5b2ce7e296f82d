"""What a run did: `Statistics` over commit records, `RunReport`, its summary for people and `_stats.json`.

Everything is added up from the commit records beside the output, so a resumed run reports the whole corpus and not
only what it did itself. Seconds of compressing are the workers' own, added over all workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from cluster.messages import Failure
from cluster.parts import Counts
from cluster.progress import counted
from cluster.records import Record
from cluster.schema import UNPLANNED
from cluster.validated import STORED, Count


@dataclass(slots=True)
class Statistics:
    """Sums over shards. `rows` = compressed + passthrough + kept + over_budget + relaxed + rejected.

    Of these, `reused` rows with `reused_tokens` came from an earlier output; in `reused_shards` all rows did.
    `fidelity` is added up over all rows but the rejected, `predicted` over the `sampled` ones.
    """

    shards: int = 0
    rows: int = 0
    compressed: int = 0
    passthrough: int = 0
    kept: int = 0
    over_budget: int = 0
    relaxed: int = 0
    rejected: int = 0
    origin_tokens: int = 0
    compressed_tokens: int = 0
    seconds: float = 0.0
    reused_shards: int = 0
    reused: int = 0
    reused_tokens: int = 0
    fidelity: float = 0.0
    sampled: int = 0
    predicted: float = 0.0
    unplanned: int = 0
    rejects: Counter[str] = field(default_factory=Counter)

    @classmethod
    def over(cls, records: Iterable[Record]) -> Statistics:
        """The sums over commit records."""
        total = cls()
        for record in records:
            total.add(record, record.seconds)
        return total

    def __add__(self, other: Statistics) -> Statistics:
        sums = {entry.name: getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)}
        return Statistics(**sums)

    def add(self, counts: Counts, seconds: float) -> None:
        """Add one shard."""
        self.shards += 1
        self.rows += counts.rows
        self.compressed += counts.compressed
        self.passthrough += counts.passthrough
        self.kept += counts.kept
        self.over_budget += counts.over_budget
        self.relaxed += counts.relaxed
        self.rejected += counts.rejected
        self.origin_tokens += counts.origin_tokens
        self.compressed_tokens += counts.compressed_tokens
        self.seconds += seconds
        self.reused_shards += counts.untouched
        self.reused += counts.reused
        self.reused_tokens += counts.reused_tokens
        self.fidelity += counts.fidelity
        self.sampled += counts.sampled
        self.predicted += counts.predicted
        self.unplanned += counts.unplanned
        self.rejects.update(counts.rejects)

    @property
    def computed_tokens(self) -> int:
        """Original tokens that a model had to see."""
        return self.origin_tokens - self.reused_tokens

    @property
    def rate(self) -> float | None:
        """Kept share of the tokens, None when there were none."""
        return self.compressed_tokens / self.origin_tokens if self.origin_tokens else None

    @property
    def mean_fidelity(self) -> float:
        """Over all rows that were not rejected, 1.0 when there were none."""
        return self.fidelity / (self.rows - self.rejected) if self.rows > self.rejected else 1.0

    @property
    def mean_predicted(self) -> float | None:
        """Over the rows that were sampled, None when none was."""
        return self.predicted / self.sampled if self.sampled else None

    def as_json(self) -> dict[str, Any]:
        predicted, rate = self.mean_predicted, self.rate
        return {
            "shards": self.shards,
            "rows": self.rows,
            "statuses": {
                "compressed": self.compressed,
                "passthrough": self.passthrough,
                "kept": self.kept,
                "over_budget": self.over_budget,
                "relaxed": self.relaxed,
                "rejected": self.rejected,
            },
            "rejects": dict(sorted(self.rejects.items())),
            "unplanned": self.unplanned,
            "origin_tokens": self.origin_tokens,
            "compressed_tokens": self.compressed_tokens,
            "rate": None if rate is None else round(rate, 6),
            "fidelity": round(self.mean_fidelity, 6),
            "fidelity_sample": {
                "rows": self.sampled,
                "predicted": None if predicted is None else round(predicted, 6),
            },
            "worker_seconds": round(self.seconds, 3),
            "reused": {"shards": self.reused_shards, "rows": self.reused, "tokens": self.reused_tokens},
        }


@dataclass(frozen=True)
class StoredRun:
    """What others rely on in `last_run` of `_stats.json`."""

    __pydantic_config__ = STORED

    shards: Count = 0
    rows: Count = 0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    failures: Mapping[str, Count] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(frozen=True)
class StoredStatistics:
    """What others rely on in `_stats.json`."""

    __pydantic_config__ = STORED

    complete: bool = False
    planned_shards: Count = 0
    shards: Count = 0
    rows: Count = 0
    statuses: Mapping[str, Count] = field(default_factory=dict)
    rejects: Mapping[str, Count] = field(default_factory=dict)
    origin_tokens: Count = 0
    compressed_tokens: Count = 0
    last_run: StoredRun = StoredRun()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one run over an output.

    planned       shards of the whole corpus
    total         statistics over every committed shard, whoever committed it
    this_run      statistics over what this run did itself; `seconds` is its time on the clock
    failures      how often attempts failed, by reason; retried ones included
    given_up      shards that could not be brought to an end, with the last failure
    stopped       why the run ended before everything was tried, or None
    model         how the workers' models ran, such as why one ran row by row
    """

    planned: int
    total: Statistics
    this_run: Statistics
    seconds: float
    failures: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[str, Failure] = field(default_factory=dict)
    stopped: str | None = None
    model: Sequence[str] = ()

    @property
    def complete(self) -> bool:
        """Every planned shard is committed and nothing objected."""
        return self.total.shards >= self.planned and not self.given_up and self.stopped is None

    @property
    def _unrecorded(self) -> int:
        """Shards that are neither given up nor stopped and yet not counted: their commit record is gone or damaged."""
        return 0 if self.stopped else max(0, self.planned - self.total.shards - len(self.given_up))

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
                "model": list(self.model),
            },
            **settings,
        }

    def summary(self, unsampled: str | None = None) -> str:
        """The last words of a run, for people; `unsampled` says why there can be no fidelity sample."""
        figures = [*_figures(self.total), *_fidelity(self.total, unsampled)]
        return "\n".join([self._headline(), *figures, *self._speed(), *self._troubles()])

    def _headline(self) -> str:
        if self.complete:
            all_ = "the only shard is" if self.planned == 1 else f"all {self.planned:,} shards are"
            return f"Complete: {all_} committed."
        why = f" ({self.stopped})" if self.stopped else ""
        return f"Not complete: {self.total.shards} of {self.planned} shards are committed{why}."

    def _speed(self) -> list[str]:
        if not self.this_run.shards:
            return ["  this run   nothing was left to do"] if self.complete else []
        return [
            f"  this run   {counted(self.this_run.shards, 'shard')}, {counted(self.this_run.rows, 'row')} "
            f"in {self.seconds:,.1f} s ({self.tokens_per_second:,.0f} tokens/s)"
        ]

    def _troubles(self) -> list[str]:
        slow = [f"  model      {how}: slow" for how in self.model if how.startswith("row by row")]
        lines = [f"  given up   {name}: {failure.detail}" for name, failure in sorted(self.given_up.items())] + slow
        if self.failures:
            lines.insert(0, f"  failures   {_counts(self.failures)}")
        if self._unrecorded:
            lines.append(f"  no record  {self._unrecorded} parts: delete those that python -m jobs.verify names")
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
        lines.append(
            f"  reused     {total.reused:,} of {total.rows:,} rows, among them {total.reused_shards:,} whole shards"
        )
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
