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
from datetime import UTC, datetime
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
    Draws,
    Estimate,
    Line,
    Summary,
    markdown,
    size_words,
    summarize,
    title_of,
)

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Point:
    """One candidate at one asked size: the share of tokens kept, and the figure."""

    size: float
    kept: float
    figure: Estimate


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric of one set, asked of one target (``""``: of none).

    series       each candidate's points, from few tokens to many
    references   the whole context and none
    """

    set: str
    target: str
    metric: str
    series: Mapping[str, Sequence[Point]]
    references: Mapping[str, Estimate]

    @property
    def title(self) -> str:
        """The metric in words."""
        return title_of(self.metric)

    @property
    def words(self) -> str:
        """What the picture shows, for who cannot see it: the best candidate at every size, and the references."""
        sizes = sorted({point.size for points in self.series.values() for point in points}, reverse=True)
        best = "; ".join(self._best(size) for size in sizes)
        known = ", ".join(f"{name} {number(figure.value)}" for name, figure in self.references.items())
        where = f"{self.set}, asked of {self.target}" if self.target else self.set
        return f"{self.title} by share of tokens kept, {where}. {best}." + (
            f" For comparison: {known}." if known else ""
        )

    def _best(self, size: float) -> str:
        there = [(one.figure, name) for name, points in self.series.items() for one in points if one.size == size]
        figure, name = max(there, key=lambda pair: pair[0].value)
        return f"Best of {len(there)}{size_words(size)}: {name}, {interval(figure)}"

    @property
    def picture(self) -> str:
        """The picture as a URL that holds it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(svg(self).encode()).decode()}"

    @property
    def rows(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Every point in words: candidate, asked size, share kept, figure with interval, rows."""
        for name, points in self.series.items():
            for one in points:
                asked = f"{one.size:,.0f} tokens" if one.size > 1 else f"{one.size:.0%}"
                yield name, asked, f"{one.kept:.1%}", interval(one.figure), one.figure.rows


def charts(summary: Summary) -> Iterator[Chart]:
    """All charts, set by set: first what targets were asked, then what is left without asking anyone."""
    kept = {(one.set, one.rate, one.candidate): one.figures[KEPT].value for one in summary.lines if KEPT in one.figures}
    for name in _distinct(summary, "set"):
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
    usual = dict.fromkeys(name for name in (SHARE, *FIRST) if name in found)
    return [name for name in {**usual, **found} if name not in (*NOT_AVERAGED, NLL, KEPT)]


def _chart(metric: str, lines: Sequence[Line], kept: Mapping[tuple[str, float | None, str], float]) -> Chart:
    series: dict[str, list[Point]] = {}
    for line in lines:
        figure = line.figures.get(metric)
        if line.rate is None or figure is None or math.isnan(figure.value):
            continue
        share = kept.get((line.set, line.rate, line.candidate), line.rate if line.rate <= 1 else math.nan)
        if math.isfinite(share):
            series.setdefault(line.candidate, []).append(Point(line.rate, share, figure))
    for points in series.values():
        points.sort(key=lambda point: point.kept)
    known = {line.candidate: line.figures[metric] for line in lines if line.rate is None and metric in line.figures}
    return Chart(lines[0].set, lines[0].target, metric, series, known)


COLOURS = ("#0a5aa8", "#b4460f", "#1b7a4a", "#8a3ea0", "#806200", "#b0256b", "#0f7483", "#555e6b")
_MARKS, _STROKES = "osD^vPX*", ("-", "--", "-.", ":")
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
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        _draw(figure, chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw(figure: Figure, chart: Chart) -> None:
    axes = figure.add_subplot()
    axes.grid(axis="y", color="lightgrey", linewidth=0.6)
    for (name, known), stroke in zip(chart.references.items(), cycle(((0, (5, 3)), (0, (1, 2)))), strict=False):
        axes.axhline(known.value, color="black", linewidth=1, linestyle=stroke, label=name, zorder=1)
    for place, (name, points) in enumerate(chart.series.items()):
        _draw_series(axes, name, points, place, (place - (len(chart.series) - 1) / 2) * _APART)
    axes.set_xlabel("share of the context's tokens kept")
    axes.set_ylabel(chart.title)
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def _draw_series(axes: Any, name: str, points: Sequence[Point], place: int, apart: float) -> None:
    reaches = [(one.figure.value - one.figure.low, one.figure.high - one.figure.value) for one in points]
    bars = [[max(0.0, reach) if math.isfinite(reach) else 0.0 for reach in side] for side in zip(*reaches, strict=True)]
    axes.errorbar(
        [one.kept + apart for one in points],
        [one.figure.value for one in points],
        yerr=bars,
        color=COLOURS[place % len(COLOURS)],
        marker=_MARKS[place % len(_MARKS)],
        linestyle=_STROKES[place // len(COLOURS) % len(_STROKES)],
        linewidth=1.6,
        markersize=5.5,
        capsize=2.5,
        elinewidth=1,
        label=name,
    )


def render(summary: Summary, info: Mapping[str, Any]) -> str:
    """The page. `info`: what the results are of, shown as a table; ``finished`` and ``model`` also in the head."""
    drawn = list(charts(summary))
    sets = _distinct(summary, "set")
    folders = (Path(__file__).parent, Path(cluster.report.__file__).parent)
    page: str = (
        environment(folders)
        .get_template("evaluation.html")
        .render(
            sets={name: [one for one in drawn if one.set == name] for name in sets},
            targets=[name for name in _distinct(summary, "target") if name],
            candidates=[name for name in _distinct(summary, "candidate") if name not in REFERENCES],
            rows={name: max(line.rows for line in summary.lines if line.set == name) for name in sets},
            rejected=sum(line.rejected for line in summary.lines if not line.target),
            baseline=summary.baseline,
            info=list(_flat(info)),
            finished=info.get("finished", ""),
            model=info.get("model", ""),
        )
    )
    return page


def _distinct(summary: Summary, name: str) -> list[str]:
    return list(dict.fromkeys(getattr(line, name) for line in summary.lines))


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
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    info = {"finished": finished, "model": config.model, "settings": identity, "resamples": config.resamples}
    text = markdown(summary)
    ledger.folder.write("summary.json", json.dumps({**info, **summary.as_json()}, indent=1).encode())
    ledger.folder.write("summary.md", text.encode())
    ledger.folder.write("report.html", render(summary, info).encode())
    return f"{text}\n{ledger.folder.url}/report.html draws this; summary.md and summary.json are beside it."
