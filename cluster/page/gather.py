"""`gather`: everything that the report shows, read from plan, records, sketches and statistics beside an output.

Sketches are merged as they are read, so memory stays flat however many shards there are. Nothing here reads a part.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import AbortRun
from cluster.ledger import Ledger
from cluster.page.throughput import Throughput
from cluster.plan import Plan
from cluster.prices import Price, parse_prices
from cluster.records import Record
from cluster.report import Statistics
from cluster.samples import RowNote, Sample
from cluster.sketch import BINS, NOTED, Sketch

SHOWN_ROWS = 10
SHOWN_SAMPLES = 6
SHOWN_SOURCES = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A row of the corpus and the file that it is in."""

    source: str
    note: RowNote


@dataclass(slots=True)
class Merged:
    """The sketches of many shards in one; `shards` is how many there were."""

    shards: int = 0
    rates: list[int] = field(default_factory=lambda: [0] * BINS)
    fidelities: list[int] = field(default_factory=lambda: [0] * BINS)
    slowest: list[Found] = field(default_factory=list)
    worst: list[Found] = field(default_factory=list)
    lost: list[Found] = field(default_factory=list)
    foretold: list[Found] = field(default_factory=list)
    samples: list[tuple[str, Sample]] = field(default_factory=list)

    def add(self, source: str, sketch: Sketch) -> None:
        """Take one shard's sketch in."""
        self.shards += 1
        self.rates = [mine + more for mine, more in zip(self.rates, sketch.rates, strict=True)]
        self.fidelities = [mine + more for mine, more in zip(self.fidelities, sketch.fidelities, strict=True)]
        drawn = [*self.samples, *((source, sample) for sample in sketch.samples)]
        distinct = {sample.fingerprint: (source, sample) for source, sample in reversed(drawn)}.values()
        for name in NOTED:
            found = [*getattr(self, name), *(Found(source, note) for note in getattr(sketch, name))]
            setattr(self, name, _first(found, NOTED[name]))
        self.samples = heapq.nsmallest(SHOWN_SAMPLES, distinct, key=lambda pair: pair[1].fingerprint)


def _first(found: Iterable[Found], order: Callable[[RowNote], Any]) -> list[Found]:
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


def gather(ledger: Ledger, prices: Iterable[str] | None = None) -> Page:
    """The page of an output; `prices` (``NAME=PRICE``) instead of those that the run was given.

    Raises AbortRun when there is no output of this job, ValueError for a price that cannot be read.
    """
    plan = ledger.plan()
    if plan is None:
        raise AbortRun(f"{ledger.output} has no _plan.json: not an output of this job")
    records, statistics = ledger.records(), ledger.statistics()
    merged = Merged()
    for record, sketch in ledger.sketches(records):
        merged.add(record.shard.source.path, sketch)
    sources = _by_source(records)
    chosen = statistics.get("settings", {}).get("price", ()) if prices is None else prices
    return Page(
        output=ledger.output,
        plan=plan,
        total=Statistics.over(records),
        sources=sources[:SHOWN_SOURCES],
        more_sources=max(0, len(sources) - SHOWN_SOURCES),
        throughput=Throughput.over(records),
        merged=merged,
        prices=parse_prices(chosen),
        statistics=statistics,
    )


def _by_source(records: Iterable[Record]) -> list[tuple[str, Statistics]]:
    sums: dict[str, Statistics] = defaultdict(Statistics)
    for record in records:
        sums[record.shard.source.path].add(record, record.seconds)
    return sorted(sums.items(), key=lambda item: (-item[1].origin_tokens, item[0]))
