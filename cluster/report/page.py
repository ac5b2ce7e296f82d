"""The report of an output: `gather` reads all that it shows beside the output, `render` makes one page of HTML of it.

The page has its style and charts inside. Escaping is the template's (always on), and a name that is not given is an
error. Text of rows is made fit to be shown: control characters become their pictures (U+2400 …), as HTML has no NUL,
and the marks that turn the direction of what follows become their names, so that no row can rearrange the page.

`Throughput` is tokens per second over the time in which anything was done, in all runs. A shard's tokens are spread
evenly over the seconds that it took until its commit. Time in which no shard was in hand, between two runs, say, is
left out of the axis and only added up. What was reused from an earlier output is not shown.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import Record, Statistics, counted, standing
from cluster.output.summary import BINS, NOTED, Excerpt, RowNote, Sample, ShardSummary, loss
from lingua.errors import ConfigError
from lingua.methods import METHODS

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN_ROWS = 10
SHOWN_SAMPLES = 6
SHOWN_POOREST = 3
SHOWN_SOURCES = 100
SPEED_BARS = 60
SHORTEST_SPAN = 0.001
"""Seconds that a shard counts for at least: commit moments are whole seconds, and its share must be spread."""
_SHOWN_AS_THEY_ARE = "\n\t"
_SIGNS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in _SHOWN_AS_THEY_ARE} | {127: "␡"}
_TURNS = {code: f"⟨U+{code:04X}⟩" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_VISIBLE = _SIGNS | _TURNS | dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")


# ---- what is shown


@dataclass(slots=True)
class Merged:
    """The summaries of many shards in one; `shards` is how many there were. Rows come with their files."""

    shards: int = 0
    rates: list[int] = field(default_factory=lambda: [0] * BINS)
    fidelities: list[int] = field(default_factory=lambda: [0] * BINS)
    rows: dict[str, list[tuple[str, RowNote]]] = field(default_factory=lambda: {name: [] for name in NOTED})
    samples: list[tuple[str, Sample]] = field(default_factory=list)
    poorest: list[tuple[str, Sample]] = field(default_factory=list)

    def add(self, source: str, summary: ShardSummary) -> None:
        self.shards += 1
        self.rates = [mine + more for mine, more in zip(self.rates, summary.rates, strict=True)]
        self.fidelities = [mine + more for mine, more in zip(self.fidelities, summary.fidelities, strict=True)]
        for name in NOTED:
            found = [*self.rows[name], *((source, note) for note in getattr(summary, name))]
            self.rows[name] = sorted(found, key=lambda pair: NOTED[name](pair[1]))[:SHOWN_ROWS]
        drawn = [*self.samples, *((source, sample) for sample in summary.samples)]
        distinct = {sample.fingerprint: (source, sample) for source, sample in reversed(drawn)}.values()
        self.samples = heapq.nsmallest(SHOWN_SAMPLES, distinct, key=lambda pair: pair[1].fingerprint)
        poor = [*self.poorest, *((source, sample) for sample in summary.poorest)]
        self.poorest = heapq.nsmallest(SHOWN_POOREST, poor, key=lambda pair: loss(pair[1].note))

    @property
    def unseen(self) -> list[tuple[str, Sample]]:
        """The poorest rows that are not among the samples."""
        shown = {sample.fingerprint for _, sample in self.samples}
        return [(source, sample) for source, sample in self.poorest if sample.fingerprint not in shown]


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
    prices: Sequence[tuple[str, float]]
    statistics: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Every planned shard is committed."""
        return self.total.shards >= len(self.plan.shards)


def gather(ledger: Ledger, prices: Iterable[str] = ()) -> Page:
    """The page of an output, with what was saved at `prices` (``NAME=PRICE``).

    Raises PlanConflict when there is no output of this job, ConfigError for a price that cannot be read.
    """
    plan, records, statistics = ledger.require_plan(), ledger.records(), ledger.statistics()
    merged = Merged()
    for record, summary in ledger.summaries(records):
        merged.add(record.shard.source.path, summary)
    sums: dict[str, Statistics] = defaultdict(Statistics)
    for record in standing(records):
        sums[record.shard.source.path] += Statistics.of(record, record.seconds)
    sources = sorted(sums.items(), key=lambda item: (-item[1].origin_tokens, item[0]))
    return Page(
        output=ledger.url,
        plan=plan,
        total=Statistics.over(records),
        sources=sources[:SHOWN_SOURCES],
        more_sources=max(0, len(sources) - SHOWN_SOURCES),
        throughput=Throughput.over(records),
        merged=merged,
        prices=tuple(map(parse_price, prices)),
        statistics=statistics,
    )


def parse_price(entry: str) -> tuple[str, float]:
    """A model and what a million tokens cost there, from ``NAME=PRICE``. ConfigError for what is no price."""
    model, _, amount = entry.rpartition("=")
    try:
        price = float(amount)
    except ValueError:
        price = math.nan
    if not model.strip() or not math.isfinite(price) or price < 0:
        raise ConfigError(f"price {entry!r}: write NAME=PRICE, the price of a million tokens, e.g. 'gpt-4o=2.50'")
    return model.strip(), price


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
        dated = [record for record in records if record.committed and not record.untouched]
        if not dated:
            return cls()
        ends = np.array([datetime.fromisoformat(record.committed).timestamp() for record in dated])
        lasted = np.array([max(record.seconds, SHORTEST_SPAN) for record in dated])
        tokens = np.array([float(record.origin_tokens - record.reused_tokens) for record in dated])
        order = np.argsort(ends - lasted)
        begins, lasted, tokens = (ends - lasted)[order], lasted[order], tokens[order]
        reach = np.maximum.accumulate(begins + lasted)
        idle = np.cumsum([0.0, *np.maximum(0.0, begins[1:] - reach[:-1])])  # that none covers, before each
        starts = begins - begins[0] - idle  # on an axis from 0, without those stretches
        seconds = float((starts + lasted).max())
        done = [np.clip((edge - starts) / lasted, 0, 1) @ tokens for edge in np.linspace(0, seconds, SPEED_BARS + 1)]
        bars = np.diff(done) * SPEED_BARS / seconds
        moments = (datetime.fromtimestamp(moment).astimezone() for moment in (begins[0], reach[-1]))
        return cls(tuple(bars.tolist()), seconds, float(idle[-1]), *moments)


def unsampled(method: str, share: float | None) -> str | None:
    """Why a run can have no fidelity sample; None where it can."""
    if not share:
        return "fidelity_sample is 0"
    known = METHODS.get(method)
    return None if known and known.needs == "causal" else f"method {method} has no causal model to ask"


def name_of(output: str) -> str:
    """What people call an output: the last name of its path."""
    return output.rstrip("/").rpartition("/")[2] or output


# ---- how it is shown


def visible(text: object) -> str:
    """The text with signs for what cannot be seen; lone surrogates become U+FFFD."""
    return str(text).translate(_VISIBLE)


def stretches(piece: Excerpt) -> Iterator[tuple[str, bool]]:
    """The text of a piece in stretches, each with whether it was kept; one stretch when that is not known."""
    position = 0
    for start, end in piece.kept or ():
        if start > position:
            yield visible(piece.text[position:start]), False
        yield from _marked(piece.text[start:end])
        position = max(position, end)
    if position < len(piece.text):
        yield visible(piece.text[position:]), False


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """A kept stretch; the white space before it is not marked, which would look odd at the end of a line."""
    word = text.lstrip()
    if len(word) < len(text):
        yield visible(text[: len(text) - len(word)]), False
    if word:
        yield visible(word), True


@cache
def environment(*folders: Path) -> Environment:
    """Where the templates of these folders are found, each read once; `visible` shows what cannot be seen."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape  # loaded where a page is made

    made = Environment(
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(folders),
    )
    made.filters.update(visible=visible, counted=counted, count=lambda number: f"{int(number):,}")
    return made


def render(page: Page) -> str:
    made = environment(Path(__file__).parent)
    made.filters.update(stretches=stretches, duration=duration)
    # with as many decimals as the smallest amount beside it needs
    made.filters["money"] = lambda amount, smallest: f"{amount:,.{2 if smallest >= 0.1 or smallest == 0 else 6}f}"
    made.filters["rate"] = lambda share: "–" if share is None else f"{share:.3f}"
    made.filters["seconds"] = lambda seconds: f"{seconds:,.2f}"
    made.filters["moment"] = lambda moment: moment.strftime("%Y-%m-%d %H:%M %Z")
    # as the last run was given it, else as the run that planned the output was
    told = {**page.plan.about.get("run", {}), **page.statistics.get("settings", {})}
    fixed, last_run = page.plan.identity.settings, page.statistics.get("last_run", {})
    method = METHODS.get(str(told.get("method")))
    target = f"asked rate {fixed['rate']:g}" if fixed.get("rate") is not None else ""
    if fixed.get("target_token") is not None:
        target = f"at most {fixed['target_token']:,} tokens per prompt"
    return made.get_template("report.html").render(
        page=page,
        name=name_of(page.output),
        planned=len(page.plan.shards),
        edges=[f"{index / BINS:.2f}" for index in range(BINS + 1)],
        unsampled=unsampled(str(told.get("method")), told.get("fidelity_sample")),
        mean_speed=page.total.computed_tokens / page.throughput.seconds if page.throughput.seconds else 0.0,
        bar_seconds=page.throughput.seconds / max(1, len(page.throughput.bars)),
        has_ids=page.plan.columns.mapped.id is not None,
        method=told.get("method"),
        asks_model=method is not None and method.needs in ("causal", "encoder"),
        target=target,
        counted_in=fixed.get("target_tokenizer", "model"),
        last_run=last_run,
        failures=last_run.get("failures", {}),
        given_up=last_run.get("given_up", {}),
        settings=list(_settings(page)),
    )


def _settings(page: Page) -> Iterator[tuple[str, str]]:
    """What the last run was given; of an unfinished first run, what the plan fixed."""
    chosen = page.statistics.get("settings") or page.plan.identity.settings
    for key, value in chosen.items():
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield "model digest", page.plan.identity.model_digest
    for package, version in page.statistics.get("versions", {}).items():
        yield f"version of {package}", str(version)


def duration(seconds: float) -> str:
    """Seconds in words that fit their size: ``4.2 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"
