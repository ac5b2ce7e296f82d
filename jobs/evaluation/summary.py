"""What measurements add up to: `Measured` rows → `Summary`, a `Line` per set, size, candidate and target.

Comparisons are paired: a candidate's figure rests on the rows for which everything it needs was measured, and intervals
(percentile bootstrap, Efron 1979) resample whole rows. The share of the full prompt's advantage is (nll of nothing −
nll) / (nll of nothing − nll of the whole context), of the means over rows. `markdown` writes the tables for people.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.evaluation.rows import FULL, NOTHING, REFERENCES, REJECTED, Measured

Floats = npt.NDArray[np.float64]
Statistic = Callable[..., Floats]
"""Means of each column [draws] → one figure a draw [draws]."""
LEVEL = 0.95
_BLOCK = 1 << 22
"""Numbers of one block of resampled rows."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval of 95%; `rows` is how many it rests on."""

    value: float
    low: float
    high: float
    rows: int


def estimate(columns: Floats, statistic: Statistic, resamples: int = 2000, seed: int = 0) -> Estimate:
    """A statistic of the means of `columns` [rows, k], with its interval; rows are drawn whole, so it is paired."""
    if (rows := len(columns)) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    chance, at_once = np.random.default_rng(seed), max(1, _BLOCK // columns.size)
    blocks = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    means = [chance.multinomial(rows, np.full(rows, 1 / rows), size=size) / rows @ columns for size in blocks]
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = statistic(*np.concatenate(means).T)
        value = float(statistic(*columns.mean(0)))
    if not len(drawn := drawn[np.isfinite(drawn)]):
        return Estimate(value, math.nan, math.nan, rows)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), rows)


def share(nothing: Floats, full: Floats, own: Floats) -> Floats:
    """Of means of nll: the share of the whole context's advantage over none."""
    return (nothing - own) / (nothing - full)


def share_difference(nothing: Floats, full: Floats, own: Floats, other: Floats) -> Floats:
    return (other - own) / (nothing - full)


NLL = "nll"
SHARE = "share"
KEPT = "kept"
LEFT = ("kept", "answer_kept", "gold_share", "names", "numbers", "readable")
"""Columns of what is left without asking anyone, as far as it was measured."""
USUAL = (SHARE, "answer_kept", "gold_kept", "gold_share", "information", "numbers", "names", "readable", "run_length")
"""Metrics in the order of their charts; others follow."""
NOT_AVERAGED = ("tokens", "origin_tokens", "asked", NLL)

GROUP = ["set", "rate", "candidate", "target"]
"""What the rows of a `Line` have in common; in tables of pandas the references' rate is 0."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a candidate came to."""

    set: str
    rate: float | None  # asked size, None for the references
    candidate: str
    target: str  # "" without one
    kept: float | None  # share of the context's tokens, as far as it is known
    rows: int  # measured; `rejected` ones could not be
    rejected: int
    figures: Mapping[str, Estimate]  # metric → mean; ``share`` of the full prompt's advantage
    against: Mapping[str, Estimate] = field(default_factory=dict)  # metric → paired difference to the baseline's


@dataclass(frozen=True, slots=True)
class Summary:
    """All lines; `baseline` is the candidate that others are compared with."""

    baseline: str
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; null is a figure that is no number, which JSON lacks."""
        lines = json.dumps([asdict(line) for line in self.lines])
        return {"baseline": self.baseline, "lines": json.loads(lines, parse_constant=lambda _: None)}


def summarize(measured: Iterable[Measured], baseline: str, resamples: int = 2000, seed: int = 0) -> Summary:
    known = [
        {"row": one.row, **{name: getattr(one, name) for name in GROUP}, REJECTED: REJECTED in one.texts, **one.values}
        for one in measured
    ]
    table = pd.DataFrame(known).fillna({"rate": 0.0}).groupby([*GROUP, "row"], sort=False).first()
    groups = {key: rows.droplevel(GROUP) for key, rows in table.groupby(GROUP, sort=False)}

    def column(key: tuple[Any, ...], metric: str) -> pd.Series:
        """A metric's values by row, of those that have one."""
        known = groups.get(key, table[:0])
        return known[metric].dropna() if metric in known else pd.Series(dtype=float)

    def figure(statistic: Statistic, *columns: pd.Series) -> Estimate:
        """Of the rows that all columns have."""
        paired = pd.concat(columns, axis=1, join="inner").to_numpy(float)
        return estimate(paired, statistic, resamples, seed)

    def line(key: tuple[Any, ...], own: pd.DataFrame) -> Line:
        name, size, candidate, target = key
        metrics = [metric for metric in own if metric not in (REJECTED, "asked") and own[metric].notna().any()]
        figures = {metric: figure(lambda own: own, column(key, metric)) for metric in metrics}
        against = dict[str, Estimate]()
        other = name, size, baseline, target
        if size and candidate != baseline:
            compared = [one for one in metrics if one not in NOT_AVERAGED and len(column(other, one))]
            against = {one: figure(np.subtract, column(key, one), column(other, one)) for one in compared}
        advantage = [column((name, 0.0, which, target), NLL) for which in (NOTHING, FULL)] + [column(key, NLL)]
        if all(map(len, advantage)):
            figures[SHARE] = figure(share, *advantage)
            if size and candidate != baseline and len(beside := column(other, NLL)):
                against[SHARE] = figure(share_difference, *advantage, beside)
        left = column((name, size, candidate, ""), KEPT)
        kept = float(left.mean()) if len(left) else size if 0 < size <= 1 else None
        rows, rejected = own.drop(columns=REJECTED).notna().any(axis=1).sum(), own[REJECTED].sum()
        return Line(name, size or None, candidate, target, kept, int(rows), int(rejected), figures, against)

    return Summary(baseline, tuple(line(key, own) for key, own in groups.items()))


# ---- as tables

TITLES = {
    "kept": "tokens kept",
    "gold_kept": "evidence found",
    "gold_share": "evidence kept",
    "information": "information kept",
    "names": "names kept",
    "numbers": "numbers kept",
    "run_length": "words in a row",
    SHARE: "share of the advantage",
}


def title_of(metric: str) -> str:
    return TITLES.get(metric) or metric.replace("_", " ")


LEGEND = """\
*tokens kept*: of the context's (question and instruction are never cut). *share of the advantage*: of what the whole
context brings over none in the log-likelihood of the gold answer; in brackets the {level} interval by bootstrap over
rows. *against {baseline}*: difference to it on the same rows. *answer kept*, *evidence kept*, *names kept*, *numbers
kept*: of those that stood in the context. *readable*: share of the kept words that follow the same word as before."""

Cells = list[str]
Column = tuple[str, str, Literal["figures", "against"]]
"""Who was asked ("": nobody), the metric, and whether the difference to the baseline's."""


def tables(summary: Summary) -> Iterator[tuple[str, str, list[Cells]]]:
    """A table for each set and size: the set, the size in words, and the rows, the header first."""
    groups = dict.fromkeys((line.set, line.rate) for line in summary.lines if line.candidate not in REFERENCES)
    for name, rate in groups or {(line.set, None): None for line in summary.lines}:
        yield name, size_words(rate), list(_table(summary, name, rate))


def markdown(summary: Summary) -> str:
    """All tables under their titles, and what the columns mean."""
    parts = [f"### {name}{size}\n\n{aligned(rows)}" for name, size, rows in tables(summary)]
    return "\n\n".join([*parts, LEGEND.format(level=f"{LEVEL:.0%}", baseline=summary.baseline)]) + "\n"


def aligned(rows: Sequence[Cells]) -> str:
    """A Markdown table with columns of even width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _table(summary: Summary, name: str, rate: float | None) -> Iterator[Cells]:
    """The lines of one set and size, references included: the header, then a row for each candidate."""
    lines = [line for line in summary.lines if line.set == name and line.rate in (rate, None)]
    columns = list(_columns(lines))
    asked = [f"{target}: {title_of(metric)}" if target else title_of(metric) for target, metric, _ in columns]
    against = f"against {summary.baseline}"
    titles = [against if of == "against" else title for title, (*_, of) in zip(asked, columns, strict=True)]
    yield ["candidate", *titles, "rows"]
    for candidate in dict.fromkeys(line.candidate for line in lines):
        by_target = {line.target: line for line in lines if line.candidate == candidate}
        own = by_target.get("") or next(iter(by_target.values()))
        rows = f"{own.rows}" + (f" ({own.rejected} failed)" if own.rejected else "")
        yield [candidate, *(_cell(by_target.get(target), metric, of) for target, metric, of in columns), rows]


def _columns(lines: Sequence[Line]) -> Iterator[Column]:
    """What is left, then of each target the share and all else, each with its difference to the baseline's."""
    for target in sorted(dict.fromkeys(line.target for line in lines), key=bool):
        own = [line for line in lines if line.target == target]
        found = dict.fromkeys(metric for line in own for metric in line.figures)
        others = [metric for metric in found if metric not in (*NOT_AVERAGED, SHARE)]
        for metric in [one for one in (NLL, SHARE) if one in found] + others if target else LEFT:
            if metric in found:
                yield target, metric, "figures"
            if target and any(metric in line.against for line in own):
                yield target, metric, "against"


def _cell(line: Line | None, metric: str, of: str) -> str:
    """A figure with its interval; of what is left the figure alone."""
    known = getattr(line, of).get(metric) if line else None
    shown = interval(known, metric, signed=of == "against")
    return shown if line and line.target else shown.partition(" ")[0]


def size_words(rate: float | None) -> str:
    """An asked size in words, to stand behind the name of a set."""
    if rate is None:
        return ""
    return f", {rate:,.0f} tokens of the context" if rate > 1 else f", {rate:.0%} of the context's tokens"


def interval(figure: Estimate | None, metric: str, signed: bool = False) -> str:
    """``72% [65, 80]`` of shares, ``7.21 [6.90, 7.50]`` of nats, ``0.61 [0.52, 0.70]`` of the rest; "" if unknown."""
    if figure is None or math.isnan(figure.value):
        return ""
    sign = "+" if signed else ""
    factor, form, unit = (100, f"{sign}.0f", "%") if metric == SHARE else (1, f"{sign}.2f", "")
    value, low, high = (format(factor * number, form) for number in (figure.value, figure.low, figure.high))
    return f"{value}{unit}" + ("" if math.isnan(figure.low) else f" [{low}, {high}]")
