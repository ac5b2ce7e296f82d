"""What a report shows: for each set, target and metric the figures of all candidates by the share of tokens they kept.

Taken from the `Summary`; knows nothing of drawing (`plots`) nor of pages (`report`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.evaluation.bootstrap import Estimate
from jobs.evaluation.measured import REFERENCES
from jobs.evaluation.render import TITLES, size_words
from jobs.evaluation.table import FIRST, NLL, NOT_AVERAGED, SHARE, Line, Summary

KEPT = "kept"
MORE_TITLES: Mapping[str, str] = {
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
    "gold_kept": "evidence found",
    "information": "information kept",
    "run_length": "words in a row",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One candidate at one asked size: the share of tokens kept, and the figure."""

    size: float
    kept: float
    figure: Estimate


@dataclass(frozen=True, slots=True)
class Series:
    """A candidate's points, from few tokens to many."""

    candidate: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric of one set, asked of one target (``""``: of none). `references`: the whole context and none."""

    set: str
    target: str
    metric: str
    series: Sequence[Series]
    references: Mapping[str, Estimate]

    @property
    def title(self) -> str:
        """The metric in words."""
        return TITLES.get(self.metric) or MORE_TITLES.get(self.metric) or self.metric.replace("_", " ")

    @property
    def words(self) -> str:
        """What the picture shows, for who cannot see it: the best candidate at every size, and the references."""
        sizes = sorted({point.size for one in self.series for point in one.points}, reverse=True)
        best = "; ".join(self._best(size) for size in sizes)
        known = ", ".join(f"{name} {number(figure.value)}" for name, figure in self.references.items())
        where = f"{self.set}, asked of {self.target}" if self.target else self.set
        return f"{self.title} by share of tokens kept, {where}. {best}." + (
            f" For comparison: {known}." if known else ""
        )

    def _best(self, size: float) -> str:
        there = [(point.figure, one.candidate) for one in self.series for point in one.points if point.size == size]
        figure, name = max(there, key=lambda pair: pair[0].value)
        return f"Best of {len(there)}{size_words(size)}: {name}, {interval(figure)}"


def charts(summary: Summary) -> Iterator[Chart]:
    """All charts, set by set: first what targets were asked, then what is left without asking anyone."""
    kept = {(line.set, line.rate, line.candidate): _kept(line) for line in summary.lines if KEPT in line.figures}
    for name in dict.fromkeys(line.set for line in summary.lines):
        own = [line for line in summary.lines if line.set == name]
        for target in sorted({line.target for line in own}, key=lambda target: (not target, target)):
            lines = [line for line in own if line.target == target]
            for metric in _metrics(lines):
                chart = _chart(metric, lines, kept)
                if chart.series:
                    yield chart


def number(value: float) -> str:
    """Two digits behind the point; a dash for what is not known."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def interval(figure: Estimate) -> str:
    """A figure with its interval in words."""
    known = math.isfinite(figure.low) and math.isfinite(figure.high)
    return number(figure.value) + (f" ({number(figure.low)} to {number(figure.high)})" if known else "")


def _metrics(lines: Sequence[Line]) -> list[str]:
    """Metrics of these lines that can be drawn, the usual ones first."""
    found = dict.fromkeys(name for line in lines for name in line.figures if line.candidate not in REFERENCES)
    shown = [name for name in found if name not in (*NOT_AVERAGED, NLL, KEPT)]
    order = (SHARE, *FIRST)
    return sorted(shown, key=lambda name: order.index(name) if name in order else len(order))


def _chart(metric: str, lines: Sequence[Line], kept: Mapping[tuple[str, float | None, str], float]) -> Chart:
    points: dict[str, list[Point]] = {}
    for line in lines:
        figure = line.figures.get(metric)
        if line.rate is None or figure is None or math.isnan(figure.value):
            continue
        share = kept.get((line.set, line.rate, line.candidate), line.rate if line.rate <= 1 else math.nan)
        if math.isfinite(share):
            points.setdefault(line.candidate, []).append(Point(line.rate, share, figure))
    series = [Series(name, sorted(own, key=lambda point: point.kept)) for name, own in points.items()]
    known = {line.candidate: line.figures[metric] for line in lines if line.rate is None and metric in line.figures}
    return Chart(lines[0].set, lines[0].target, metric, series, known)


def _kept(line: Line) -> float:
    return line.figures[KEPT].value
