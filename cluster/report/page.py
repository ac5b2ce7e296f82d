"""`gather`: everything that the report shows, read from plan, records, summaries and statistics beside an output.

`Throughput` is tokens per second over the time in which anything was done, in all runs. A shard's tokens are spread
evenly over the seconds that it took until its commit. Time in which no shard was in hand, between two runs, say, is
left out of the axis and only added up. What was reused from an earlier output is not shown.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cluster.errors import AbortRun
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import Record, Statistics, standing
from cluster.output.summary import BINS, NOTED, RowNote, Sample, ShardSummary, loss
from lingua.methods import METHODS

SHOWN_ROWS = 10
SHOWN_SAMPLES = 6
SHOWN_POOREST = 3
SHOWN_SOURCES = 100
SPEED_BARS = 60
SHORTEST_SPAN = 0.001
"""Seconds that a shard counts for at least: commit moments are whole seconds, and its share must be spread."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of the corpus and the file that it is in."""

    source: str
    note: RowNote


@dataclass(slots=True)
class Merged:
    """The summaries of many shards in one; `shards` is how many there were."""

    shards: int = 0
    rates: list[int] = field(default_factory=lambda: [0] * BINS)
    fidelities: list[int] = field(default_factory=lambda: [0] * BINS)
    slowest: list[FoundRow] = field(default_factory=list)
    worst: list[FoundRow] = field(default_factory=list)
    lost: list[FoundRow] = field(default_factory=list)
    foretold: list[FoundRow] = field(default_factory=list)
    samples: list[tuple[str, Sample]] = field(default_factory=list)
    poorest: list[tuple[str, Sample]] = field(default_factory=list)

    def add(self, source: str, summary: ShardSummary) -> None:
        """Take one shard's summary in."""
        self.shards += 1
        self.rates = [mine + more for mine, more in zip(self.rates, summary.rates, strict=True)]
        self.fidelities = [mine + more for mine, more in zip(self.fidelities, summary.fidelities, strict=True)]
        drawn = [*self.samples, *((source, sample) for sample in summary.samples)]
        distinct = {sample.fingerprint: (source, sample) for source, sample in reversed(drawn)}.values()
        for name in NOTED:
            found = [*getattr(self, name), *(FoundRow(source, note) for note in getattr(summary, name))]
            setattr(self, name, _first(found, NOTED[name]))
        self.samples = heapq.nsmallest(SHOWN_SAMPLES, distinct, key=lambda pair: pair[1].fingerprint)
        poor = [*self.poorest, *((source, sample) for sample in summary.poorest)]
        self.poorest = heapq.nsmallest(SHOWN_POOREST, poor, key=lambda pair: loss(pair[1].note))

    @property
    def unseen(self) -> list[tuple[str, Sample]]:
        """The poorest rows that are not among the samples."""
        shown = {sample.fingerprint for _, sample in self.samples}
        return [(source, sample) for source, sample in self.poorest if sample.fingerprint not in shown]


def _first(found: Iterable[FoundRow], order: Callable[[RowNote], Any]) -> list[FoundRow]:
    return heapq.nsmallest(SHOWN_ROWS, found, key=lambda one: order(one.note))


@dataclass(frozen=True, slots=True)
class Page:
    """What the report shows. `sources`: figures by input file, largest first, of at most `SHOWN_SOURCES` of them."""

    output: str
    plan: Plan
    total: Statistics
    sources: Sequence[tuple[str, Statistics]]
    more_sources: int
    throughput: Throughput
    merged: Merged
    prices: Sequence[Price]
    statistics: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Every planned shard is committed."""
        return self.total.shards >= len(self.plan.shards)

    @property
    def saved_tokens(self) -> int:
        """Tokens that need not be read any more."""
        return self.total.origin_tokens - self.total.compressed_tokens


def gather(ledger: Ledger, prices: Iterable[str] = ()) -> Page:
    """The page of an output, with what was saved at `prices` (``NAME=PRICE``).

    Raises AbortRun when there is no output of this job, ValueError for a price that cannot be read.
    """
    plan = ledger.plan()
    if plan is None:
        raise AbortRun(f"{ledger.output} has no _plan.json: not an output of this job")
    records, statistics = ledger.records(), ledger.statistics()
    merged = Merged()
    for record, summary in ledger.summaries(records):
        merged.add(record.shard.source.path, summary)
    sources = _by_source(standing(records))
    return Page(
        output=ledger.output,
        plan=plan,
        total=Statistics.over(records),
        sources=sources[:SHOWN_SOURCES],
        more_sources=max(0, len(sources) - SHOWN_SOURCES),
        throughput=Throughput.over(records),
        merged=merged,
        prices=parse_prices(prices),
        statistics=statistics,
    )


def _by_source(records: Iterable[Record]) -> list[tuple[str, Statistics]]:
    sums: dict[str, Statistics] = defaultdict(Statistics)
    for record in records:
        sums[record.shard.source.path] += Statistics.of(record, record.seconds)
    return sorted(sums.items(), key=lambda item: (-item[1].origin_tokens, item[0]))


@dataclass(frozen=True, slots=True)
class Throughput:
    """bars [BARS]: tokens per second in each of equal stretches of `seconds` altogether; `idle`: seconds left out."""

    bars: tuple[float, ...] = ()
    seconds: float = 0.0
    idle: float = 0.0
    begin: datetime | None = None
    end: datetime | None = None

    @classmethod
    def over(cls, records: Iterable[Record]) -> Throughput:
        """The throughput of all commits whose moment is known."""
        spans = sorted(_span(record) for record in records if record.committed and not record.untouched)
        if not spans:
            return cls()
        worked, idle = _without_gaps(spans)
        seconds = max(end for _, end, _ in worked)
        begin, end = spans[0][0], max(end for _, end, _ in spans)
        moments = (datetime.fromtimestamp(moment).astimezone() for moment in (begin, end))
        return cls(_spread(worked, seconds), seconds, idle, *moments)


_Span = tuple[float, float, int]
"""Begin and end in seconds, and the tokens of a shard."""


def _span(record: Record) -> _Span:
    end = datetime.fromisoformat(record.committed).timestamp()
    return end - max(record.seconds, SHORTEST_SPAN), end, record.origin_tokens - record.reused_tokens


def _without_gaps(spans: Sequence[_Span]) -> tuple[list[_Span], float]:
    """The spans on an axis from 0 without the stretches that none covers, and how long those were."""
    first = reach = spans[0][0]
    idle, worked = 0.0, []
    for begin, end, tokens in spans:
        idle += max(0.0, begin - reach)
        reach = max(reach, end)
        worked.append((begin - first - idle, end - first - idle, tokens))
    return worked, idle


def _spread(spans: Iterable[_Span], seconds: float) -> tuple[float, ...]:
    width = seconds / SPEED_BARS
    bars = [0.0] * SPEED_BARS
    for begin, end, tokens in spans:
        for index in range(int(begin / width), min(SPEED_BARS, int(end / width) + 1)):
            covered = min(end, (index + 1) * width) - max(begin, index * width)
            bars[index] += max(0.0, covered) / (end - begin) * tokens / width
    return tuple(bars)


def unsampled(method: str, share: float | None) -> str | None:
    """Why a run can have no fidelity sample; None where it can."""
    if not share:
        return "fidelity_sample is 0"
    known = METHODS.get(method)
    return None if known and known.needs == "causal" else f"method {method} has no causal model to ask"


def name_of(output: str) -> str:
    """What people call an output: the last name of its path."""
    return output.rstrip("/").rpartition("/")[2] or output


MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a million prompt tokens cost at a model, in whatever currency the user thinks in."""

    model: str
    per_million: float

    def of(self, tokens: int) -> float:
        """What so many tokens cost."""
        return self.per_million * tokens / MILLION


def parse_prices(entries: Iterable[str]) -> tuple[Price, ...]:
    """From ``NAME=PRICE`` each. ValueError names the entry that is something else."""
    return tuple(map(_price, entries))


def _price(entry: str) -> Price:
    model, _, amount = entry.rpartition("=")
    try:
        per_million = float(amount)
    except ValueError:
        per_million = math.nan
    if not model.strip() or not math.isfinite(per_million) or per_million < 0:
        raise ValueError(f"{entry!r}: write NAME=PRICE, the price of a million tokens, e.g. 'gpt-4o=2.50'")
    return Price(model.strip(), per_million)
