"""The summary for people: a table per set and size, as Markdown whose columns are aligned, so that it reads as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.evaluation.bootstrap import Estimate
from jobs.evaluation.measured import REFERENCES
from jobs.evaluation.table import NLL, NOT_AVERAGED, SHARE, Line, Summary

LEFT = ("kept", "answer_kept", "gold_share", "names", "numbers", "readable")
"""Columns of what is left without asking anyone, as far as it was measured."""
TITLES = {
    "kept": "tokens kept",
    "answer_kept": "answer kept",
    "gold_share": "evidence kept",
    "names": "names kept",
    "numbers": "numbers kept",
    SHARE: "share of the advantage",
}
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
        header = ["candidate", *(TITLES.get(name, name) for name in left)]
        for target, metric in asked:
            header += [f"{target}: {TITLES.get(metric, metric)}"]
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
