"""What was measured and what it adds up to: `Measured` rows → `Summary`, a `Line` per set, size, candidate and target.

Comparisons are paired: a candidate's figure rests on the rows for which everything it needs was measured, and intervals
(percentile bootstrap, Efron 1979) resample whole rows. The share of the full prompt's advantage is (nll of nothing −
nll) / (nll of nothing − nll of the whole context), of the means over rows. `markdown` writes the tables for people.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FULL = "full"
NOTHING = "nothing"
REFERENCES = (FULL, NOTHING)
"""Candidates without a rate: the uncompressed context, and none."""
CONTEXT = "context"
OUTPUT = "output"
REJECTED = "rejected"
"""Keys of `Measured.texts`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of one row.

    rate     asked share of the context's tokens; above 1 a number of tokens; None for the references
    target   name of the model that was asked; "" for metrics that need none
    values   metric → value, e.g. ``nll`` (nats), ``tokens``, ``answer_kept`` (0 or 1), ``f1``; a metric that does not
             apply to a row is absent
    texts    ``context``: what is left of it (of target ""); ``output``: what a target generated; ``rejected``: why the
             row could not be measured
    """

    row: str
    set: str
    candidate: str
    rate: float | None
    target: str
    values: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, keys in order, numbers to nine digits: the same values give the same line."""
        values = {name: float(f"{value:.9g}") for name, value in sorted(self.values.items()) if math.isfinite(value)}
        return json.dumps({**asdict(self), "values": values}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Measured:
        """The inverse of `to_json`."""
        return cls(**json.loads(line))


def read_lines(data: bytes) -> list[Measured]:
    """The records of a file of JSON lines."""
    return [Measured.from_json(line) for line in data.split(b"\n") if line]


def write_lines(measured: Iterable[Measured]) -> bytes:
    """The file of these records."""
    return "".join(item.to_json() + "\n" for item in measured).encode()


Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Means of the columns [..., k] → one figure each [...]."""
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
    rows = len(columns)
    if rows == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    means = np.concatenate(list(_resampled(columns, resamples, np.random.default_rng(seed))))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = statistic(means)
        value = float(statistic(columns.mean(0, keepdims=True))[0])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(value, float("nan"), float("nan"), rows)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), rows)


def mean(means: Floats) -> Floats:
    """The mean of the only column."""
    return means[..., 0]


def share(means: Floats) -> Floats:
    """Columns (nll of nothing, of the whole context, of a candidate) → share of the whole context's advantage."""
    nothing, full, candidate = means[..., 0], means[..., 1], means[..., 2]
    result: Floats = (nothing - candidate) / (nothing - full)
    return result


def share_difference(means: Floats) -> Floats:
    """Columns (nothing, full, candidate, other) → share of the candidate less that of the other."""
    nothing, full, candidate, other = (means[..., column] for column in range(4))
    result: Floats = (other - candidate) / (nothing - full)
    return result


def difference(means: Floats) -> Floats:
    """Columns (candidate, other) → mean of the first less that of the second."""
    result: Floats = means[..., 0] - means[..., 1]
    return result


def _resampled(columns: Floats, resamples: int, chance: np.random.Generator) -> Iterator[Floats]:
    """Means [some, k] of rows drawn with replacement, in blocks that fit into memory."""
    rows = len(columns)
    at_once = max(1, _BLOCK // columns.size)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        weights = chance.multinomial(rows, np.full(rows, 1 / rows), size=count) / rows
        yield weights @ columns


NLL = "nll"
SHARE = "share"
FIRST = ("kept", "answer_kept", "gold_kept", "gold_share", "information", "numbers", "names", "readable", "run_length")
"""Metrics that need no target, in the order of the columns."""
NOT_AVERAGED = ("tokens", "origin_tokens", "asked", NLL)

Group = tuple[str, float | None, str, str]
"""(set, size, candidate, target)"""
Values = Mapping[Group, Mapping[str, Mapping[str, float]]]
"""group → metric → row → value"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a candidate came to.

    rate      asked size, None for the references    target   "" without one
    rows      measured; `rejected` could not be
    figures   metric → mean; ``share`` of the full prompt's advantage
    against   metric → paired difference to the baseline's
    """

    set: str
    rate: float | None
    candidate: str
    target: str
    rows: int
    rejected: int
    figures: Mapping[str, Estimate]
    against: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """All lines; `baseline` is the candidate that others are compared with."""

    baseline: str
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"baseline": self.baseline, "lines": [asdict(line) for line in self.lines]}


@dataclass(frozen=True, slots=True)
class Draws:
    """How intervals are drawn."""

    resamples: int = 2000
    seed: int = 0


def summarize(measured: Iterable[Measured], baseline: str, draws: Draws = Draws()) -> Summary:
    """The summary of an evaluation; measurements without a target count for every target of their row as well."""
    values: dict[Group, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    rejected: dict[Group, int] = defaultdict(int)
    for one in measured:
        group = one.set, one.rate, one.candidate, one.target
        rejected[group] += REJECTED in one.texts
        for name, value in one.values.items():
            values[group][name][one.row] = value
    make = _Lines(values, baseline, draws)
    lines = [make.line(group, rejected[group]) for group in {**values, **rejected}]
    return Summary(baseline, tuple(lines))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Makes the lines of one evaluation."""

    values: Values
    baseline: str
    draws: Draws

    def line(self, group: Group, rejected: int) -> Line:
        own = self.values.get(group, {})
        figures = {name: self._estimate([rows], mean) for name, rows in own.items() if name != "asked"}
        against = dict(self._against(group))
        if (columns := self._share_columns(group)) is not None:
            figures[SHARE] = self._estimate(columns, share)
        rows = len(set().union(*own.values())) if own else 0
        return Line(*group, rows, rejected, figures, against)

    def _against(self, group: Group) -> Iterator[tuple[str, Estimate]]:
        """Differences to the baseline at the same size."""
        name, size, candidate, target = group
        other = name, size, self.baseline, target
        if size is None or candidate == self.baseline or other not in self.values:
            return
        for metric, rows in self.values.get(group, {}).items():
            if metric not in NOT_AVERAGED and metric in self.values[other]:
                yield metric, self._estimate([rows, self.values[other][metric]], difference)
        columns = self._share_columns(group)
        if columns is not None and NLL in self.values[other]:
            yield SHARE, self._estimate([*columns, self.values[other][NLL]], share_difference)

    def _share_columns(self, group: Group) -> list[Mapping[str, float]] | None:
        """Nll per row of nothing, of the whole context and of this group."""
        name, _, _, target = group
        found = [self.values.get(key, {}).get(NLL) for key in (*_references(name, target), group)]
        return [column for column in found if column] if all(found) else None

    def _estimate(self, columns: Sequence[Mapping[str, float]], statistic: Statistic) -> Estimate:
        return estimate(paired(columns), statistic, self.draws.resamples, self.draws.seed)


def paired(columns: Sequence[Mapping[str, float]]) -> Floats:
    """Values [rows, k] of the rows that all columns have."""
    shared = [row for row in columns[0] if all(row in column for column in columns[1:])]
    return np.array([[column[row] for column in columns] for row in shared], float).reshape(len(shared), len(columns))


def _references(name: str, target: str) -> tuple[Group, Group]:
    return (name, None, NOTHING, target), (name, None, FULL, target)


LEFT = ("kept", "answer_kept", "gold_share", "names", "numbers", "readable")
"""Columns of what is left without asking anyone, as far as it was measured."""
TITLES = {
    "kept": "tokens kept",
    "answer_kept": "answer kept",
    "gold_kept": "evidence found",
    "gold_share": "evidence kept",
    "information": "information kept",
    "names": "names kept",
    "numbers": "numbers kept",
    "run_length": "words in a row",
    SHARE: "share of the advantage",
    "exact_number": "right final number",
    "final_match": "right final answer",
    "subspan_em": "answer said (sub-span match)",
    "f1": "F1 of words",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU of sentences",
    "similarity": "similarity of tokens",
    "edit_similarity": "similarity of code",
}


def title_of(metric: str) -> str:
    """A metric in words."""
    return TITLES.get(metric) or metric.replace("_", " ")


LEGEND = """\
*tokens kept*: of the context's (question and instruction are never cut). *share of the advantage*: of what the whole
context brings over none in the log-likelihood of the gold answer; in brackets the {level} interval by bootstrap over
rows. *against {baseline}*: difference to it on the same rows. *answer kept*, *evidence kept*, *names kept*, *numbers
kept*: of those that stood in the context. *readable*: share of the kept words that follow the same word as before."""

Cells = list[str]


@dataclass(frozen=True, slots=True)
class _Table:
    """The lines of one set and size, references included; `targets` in the order of the summary."""

    set: str
    rate: float | None
    lines: Sequence[Line]
    targets: Sequence[str]
    baseline: str

    def cells(self) -> Iterator[Cells]:
        """The header, then a row for each candidate."""
        left = [name for name in LEFT if any(name in line.figures for line in self.lines if not line.target)]
        asked = [(target, metric) for target in self.targets for metric in self._metrics(target)]
        header = ["candidate", *(title_of(name) for name in left)]
        for target, metric in asked:
            header += [f"{target}: {title_of(metric)}"]
            header += [f"against {self.baseline}"] if self._compares(target, metric) else []
        yield [*header, "rows"]
        for candidate in dict.fromkeys(line.candidate for line in self.lines):
            yield self._row(candidate, left, asked)

    def _row(self, candidate: str, left: Sequence[str], asked: Sequence[tuple[str, str]]) -> Cells:
        by_target = {line.target: line for line in self.lines if line.candidate == candidate}
        own = by_target.get("") or next(iter(by_target.values()))
        cells = [candidate, *(_number(own.figures.get(name)) for name in left)]
        for target, metric in asked:
            line = by_target.get(target)
            cells.append(_interval(line.figures.get(metric) if line else None, metric))
            if self._compares(target, metric):
                cells.append(_interval(line.against.get(metric) if line else None, metric, signed=True))
        return [*cells, f"{own.rows}" + (f" ({own.rejected} failed)" if own.rejected else "")]

    def _metrics(self, target: str) -> list[str]:
        found = dict.fromkeys(name for line in self.lines if line.target == target for name in line.figures)
        order = [NLL, SHARE] if SHARE in found else [NLL] if NLL in found else []
        return [*order, *(name for name in found if name not in (*NOT_AVERAGED, NLL, SHARE))]

    def _compares(self, target: str, metric: str) -> bool:
        return any(metric in line.against for line in self.lines if line.target == target)


def markdown(summary: Summary) -> str:
    """All tables under their titles, and what the columns mean."""
    parts = [_part(table) for table in _tables(summary)]
    return "\n\n".join([*parts, LEGEND.format(level="95%", baseline=summary.baseline)]) + "\n"


def _tables(summary: Summary) -> Iterator[_Table]:
    targets = [name for name in dict.fromkeys(line.target for line in summary.lines) if name]
    groups = dict.fromkeys((line.set, line.rate) for line in summary.lines if line.candidate not in REFERENCES)
    for name, rate in groups or {(line.set, None): None for line in summary.lines}:
        own = [line for line in summary.lines if line.set == name and line.rate in (rate, None)]
        yield _Table(name, rate, own, targets, summary.baseline)


def _part(table: _Table) -> str:
    return f"### {table.set}{size_words(table.rate)}\n\n{aligned(list(table.cells()))}"


def size_words(rate: float | None) -> str:
    """An asked size in words, to stand behind the name of a set."""
    if rate is None:
        return ""
    return f", {rate:,.0f} tokens of the context" if rate > 1 else f", {rate:.0%} of the context's tokens"


def aligned(rows: Sequence[Cells]) -> str:
    """A Markdown table with columns of even width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (rows[0], rule, *rows[1:])
    )


def _number(figure: Estimate | None) -> str:
    return "" if figure is None or math.isnan(figure.value) else f"{figure.value:.2f}"


def _interval(figure: Estimate | None, metric: str, signed: bool = False) -> str:
    """``72% [65, 80]`` of shares, ``7.21 [6.90, 7.50]`` of nats, ``0.61 [0.52, 0.70]`` of the rest."""
    if figure is None or math.isnan(figure.value):
        return ""
    sign = "+" if signed else ""
    if metric == SHARE:
        value, low, high = (f"{100 * number:{sign}.0f}" for number in (figure.value, figure.low, figure.high))
        return f"{value}% [{low}, {high}]"
    return f"{figure.value:{sign}.2f} [{figure.low:{sign}.2f}, {figure.high:{sign}.2f}]"
