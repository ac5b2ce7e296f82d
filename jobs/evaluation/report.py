"""The report of an evaluation: charts of what candidates preserve by the share of tokens kept, and the page with them.

A `Chart` is a metric of one set, asked of one target: data from the `Summary`. matplotlib draws it; the page embeds the
SVG as an image, with the numbers in a table below it, looks like the page of a run and needs no network.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import cluster.report
from cluster.report.render import environment
from jobs.evaluation.ledger import EvalLedger, Wave
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.summary import (
    FIRST,
    NLL,
    NOT_AVERAGED,
    REFERENCES,
    SHARE,
    TITLES,
    Draws,
    Estimate,
    Line,
    Summary,
    markdown,
    size_words,
    summarize,
)

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


COLOURS = ("#0a5aa8", "#b4460f", "#1b7a4a", "#8a3ea0", "#806200", "#b0256b", "#0f7483", "#555e6b")
_MARKS, _STROKES = "osD^vPX*", ("-", "--", "-.", ":")
_WIDTH, _HEIGHT = 7.2, 3.6
_APART = 0.004
"""Points asked for at the same size are drawn this far apart, so that their intervals do not overlap."""
_STYLE: Mapping[str, Any] = {
    "text.parse_math": False,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "evaluation",
}


def svg(chart: Chart) -> str:
    """The picture as an SVG document."""
    settings: Any = _STYLE
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        _draw(figure, chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw(figure: Figure, chart: Chart) -> None:
    axes = figure.add_subplot()
    axes.grid(axis="y", color="lightgrey", linewidth=0.6)
    for (name, known), stroke in zip(chart.references.items(), cycle(((0, (5, 3)), (0, (1, 2)))), strict=False):
        axes.axhline(known.value, color="black", linewidth=1, linestyle=stroke, label=name, zorder=1)
    for place, one in enumerate(chart.series):
        _draw_series(axes, one, place, (place - (len(chart.series) - 1) / 2) * _APART)
    axes.set_xlabel("share of the context's tokens kept")
    axes.set_ylabel(chart.title)
    axes.set_xlim(*_limits(chart))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def _draw_series(axes: Any, series: Series, place: int, apart: float) -> None:
    figures = [point.figure for point in series.points]
    axes.errorbar(
        [point.kept + apart for point in series.points],
        [figure.value for figure in figures],
        yerr=_errors(figures),
        color=COLOURS[place % len(COLOURS)],
        marker=_MARKS[place % len(_MARKS)],
        linestyle=_STROKES[place // len(COLOURS) % len(_STROKES)],
        linewidth=1.6,
        markersize=5.5,
        capsize=2.5,
        elinewidth=1,
        label=series.candidate,
    )


def _errors(figures: Sequence[Estimate]) -> list[list[float]]:
    """How far the intervals reach down and up; nothing where there is none."""
    down = [figure.value - figure.low for figure in figures]
    up = [figure.high - figure.value for figure in figures]
    return [[max(0.0, reach) if math.isfinite(reach) else 0.0 for reach in side] for side in (down, up)]


def _limits(chart: Chart) -> tuple[float, float]:
    kept = [point.kept for one in chart.series for point in one.points]
    room = max(0.05, 0.08 * (max(kept) - min(kept))) + _APART * len(chart.series)
    return max(0.0, min(kept) - room), min(1.02, max(kept) + room)


def figures_of(series: Series) -> list[tuple[str, str, str, int]]:
    """A series in words: asked size, share kept, figure with interval, rows."""
    return [
        (
            f"{point.size:,.0f} tokens" if point.size > 1 else f"{point.size:.0%}",
            f"{point.kept:.1%}",
            interval(point.figure),
            point.figure.rows,
        )
        for point in series.points
    ]


_FOLDERS = (Path(__file__).parent, Path(cluster.report.__file__).parent)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with its picture and its numbers."""

    chart: Chart
    picture: str
    rows: list[tuple[str, str, str, str, int]]

    @classmethod
    def of(cls, chart: Chart) -> Drawn:
        rows = [(one.candidate, *figures) for one in chart.series for figures in figures_of(one)]
        picture = base64.b64encode(svg(chart).encode()).decode()
        return cls(chart, f"data:image/svg+xml;base64,{picture}", rows)


def render(summary: Summary, info: Mapping[str, Any]) -> str:
    """The page. `info`: what the results are of, shown as a table; ``finished`` and ``model`` also in the head."""
    drawn = [Drawn.of(chart) for chart in charts(summary)]
    page: str = _template().render(
        sets={name: [one for one in drawn if one.chart.set == name] for name in _distinct(summary, "set")},
        targets=[name for name in _distinct(summary, "target") if name],
        candidates=[name for name in _distinct(summary, "candidate") if name not in REFERENCES],
        rows={name: _most_rows(summary, name) for name in _distinct(summary, "set")},
        rejected=sum(line.rejected for line in summary.lines if not line.target),
        baseline=summary.baseline,
        info=list(_flat(info)),
        finished=info.get("finished", ""),
        model=info.get("model", ""),
    )
    return page


def _template() -> Any:
    return environment(_FOLDERS).get_template("evaluation.html")


def _distinct(summary: Summary, name: str) -> list[str]:
    return list(dict.fromkeys(getattr(line, name) for line in summary.lines))


def _most_rows(summary: Summary, name: str) -> int:
    return max(line.rows for line in summary.lines if line.set == name)


def _flat(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything in `info` as pairs of words; what lies deeper under its own names."""
    for key, value in info.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def conclude(config: EvalConfig, ledger: EvalLedger, plan: Sequence[Wave], identity: Mapping[str, Any]) -> str:
    """Put `summary.json`, `summary.md` and the report; the tables as text."""
    measured = ledger.measured(unit.name for wave in plan for unit in wave.units)
    baseline = (config.peers or [one.name for one in config.candidates])[0]
    summary = summarize(measured, baseline, Draws(config.resamples, config.seed or 0))
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    info = {"finished": finished, "model": config.model, "settings": identity, "resamples": config.resamples}
    text = markdown(summary)
    ledger.folder.write("summary.json", json.dumps({**info, **summary.as_json()}, indent=1).encode())
    ledger.folder.write("summary.md", text.encode())
    ledger.folder.write("report.html", render(summary, info).encode())
    return f"{text}\n{ledger.folder.url}/report.html draws this; summary.md and summary.json are beside it."
