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
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

import cluster.report
from cluster.report.page import environment
from jobs.evaluation.ledger import EvalLedger, Wave
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.summary import (
    FIRST,
    NOT_AVERAGED,
    REFERENCES,
    SHARE,
    Estimate,
    Line,
    Summary,
    interval,
    markdown,
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
        return title_of(self.metric)

    @property
    def words(self) -> str:
        """What the picture shows, for who cannot see it; its numbers stand in the table below."""
        where = f"{self.set}, asked of {self.target}" if self.target else self.set
        known = ", ".join(f"{name} {interval(figure, self.metric)}" for name, figure in self.references.items())
        return f"{self.title} by share of tokens kept, {where}" + (f"; for comparison: {known}" if known else "")

    @property
    def picture(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(svg(self).encode()).decode()}"

    @property
    def rows(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Every point in words: candidate, asked size, share kept, figure with interval, rows."""
        for name, points in self.series.items():
            for one in points:
                asked = f"{one.size:,.0f} tokens" if one.size > 1 else f"{one.size:.0%}"
                yield name, asked, f"{one.kept:.1%}", interval(one.figure, self.metric), one.figure.rows


def charts(summary: Summary) -> Iterator[Chart]:
    """All charts, set by set: first what targets were asked, then what is left without asking anyone."""
    kept = {(one.set, one.rate, one.candidate): one.figures[KEPT].value for one in summary.lines if KEPT in one.figures}
    for name in _distinct(summary, "set"):
        own = [line for line in summary.lines if line.set == name]
        for target in sorted({line.target for line in own}, key=lambda target: (not target, target)):
            lines = [line for line in own if line.target == target]
            found = (_chart(metric, lines, kept) for metric in _metrics(lines))
            yield from (chart for chart in found if chart.series)


def _metrics(lines: Sequence[Line]) -> list[str]:
    """Metrics of these lines that can be drawn, the usual ones first."""
    found = dict.fromkeys(name for line in lines for name in line.figures if line.candidate not in REFERENCES)
    usual = dict.fromkeys(name for name in (SHARE, *FIRST) if name in found)
    return [name for name in {**usual, **found} if name not in (*NOT_AVERAGED, KEPT)]


def _chart(metric: str, lines: Sequence[Line], kept: Mapping[tuple[str, float | None, str], float]) -> Chart:
    series: dict[str, list[Point]] = {}
    measured = [line for line in lines if metric in line.figures and not math.isnan(line.figures[metric].value)]
    for line in measured:
        share = kept.get((line.set, line.rate, line.candidate))
        if line.rate is not None and (share is not None or line.rate <= 1):
            point = Point(line.rate, line.rate if share is None else share, line.figures[metric])
            series.setdefault(line.candidate, []).append(point)
    for points in series.values():
        points.sort(key=lambda point: point.kept)
    known = {line.candidate: line.figures[metric] for line in measured if line.rate is None}
    return Chart(lines[0].set, lines[0].target, metric, series, known)


COLOURS = ("#0a5aa8", "#b4460f", "#1b7a4a", "#8a3ea0", "#806200", "#b0256b", "#0f7483", "#555e6b")
_APART = 0.004
"""Points asked for at the same size are drawn this far apart, so that their intervals do not overlap."""
_STYLE: Mapping[str, Any] = {
    "text.parse_math": False,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(linestyle=["-", "--", "-."]) * (cycler(color=COLOURS) + cycler(marker=list("osD^vPX*"))),
    "legend.frameon": False,
    "svg.hashsalt": "evaluation",
}


def svg(chart: Chart) -> str:
    settings: Any = _STYLE
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        _draw(figure.add_subplot(), chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw(axes: Any, chart: Chart) -> None:
    axes.grid(axis="y", color="lightgrey", linewidth=0.6)
    for (name, known), stroke in zip(chart.references.items(), cycle(((0, (5, 3)), (0, (1, 2)))), strict=False):
        axes.axhline(known.value, color="black", linewidth=1, linestyle=stroke, marker="", label=name, zorder=1)
    for place, (name, points) in enumerate(chart.series.items()):
        apart = (place - (len(chart.series) - 1) / 2) * _APART
        figures = [one.figure for one in points]
        reaches = [(one.value - one.low, one.high - one.value) for one in figures]
        bars = np.clip(np.nan_to_num(np.asarray(reaches).T), 0, None)
        axes.errorbar(
            [one.kept + apart for one in points], [one.value for one in figures], bars, label=name, capsize=2.5
        )
    axes.set_xlabel("share of the context's tokens kept")
    axes.set_ylabel(chart.title)
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


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
    summary = summarize(measured, baseline, config.resamples, config.seed or 0)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    info = {"finished": finished, "model": config.model, "settings": identity, "resamples": config.resamples}
    text = markdown(summary)
    ledger.folder.write("summary.json", json.dumps({**info, **summary.as_json()}, indent=1).encode())
    ledger.folder.write("summary.md", text.encode())
    ledger.folder.write("report.html", render(summary, info).encode())
    return f"{text}\n{ledger.folder.url}/report.html draws this; summary.md and summary.json are beside it."
