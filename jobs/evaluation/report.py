"""The report of an evaluation: charts of what candidates preserve by the share of tokens kept, and the page with them.

A `Chart` is a metric of one set, asked of one target: data from the `Summary`. matplotlib draws it; the page embeds the
SVG as an image, with the tables of the summary below, looks like the page of a run and needs no network.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

import cluster.report
from cluster.report.page import environment
from jobs.evaluation.rows import REFERENCES
from jobs.evaluation.summary import KEPT, NOT_AVERAGED, USUAL, Estimate, Line, Summary, interval, tables, title_of


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric of one set, asked of one target (``""``: of none); `lines` are those in which it was measured."""

    set: str
    target: str
    metric: str
    lines: Sequence[Line]

    @property
    def title(self) -> str:
        return title_of(self.metric)

    @property
    def series(self) -> Mapping[str, Sequence[Line]]:
        """Each candidate's lines, from few tokens to many."""
        sized = [line for line in self.lines if line.rate is not None and line.kept is not None]
        names = dict.fromkeys(line.candidate for line in sized)
        sized.sort(key=lambda line: line.kept or 0.0)
        return {name: [line for line in sized if line.candidate == name] for name in names}

    @property
    def references(self) -> Mapping[str, Estimate]:
        """The whole context and none."""
        return {line.candidate: line.figures[self.metric] for line in self.lines if line.rate is None}

    @property
    def words(self) -> str:
        """What the picture shows, for who cannot see it; its numbers stand in the tables below."""
        where = f"{self.set}, asked of {self.target}" if self.target else self.set
        known = ", ".join(f"{name} {interval(figure, self.metric)}" for name, figure in self.references.items())
        return f"{self.title} by share of tokens kept, {where}" + (f"; for comparison: {known}" if known else "")

    @property
    def picture(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(svg(self).encode()).decode()}"


def charts(summary: Summary) -> Iterator[Chart]:
    """All charts, set by set: first what targets were asked, then what is left without asking anyone."""
    targets = sorted(_distinct(summary, "target"), key=lambda target: (not target, target))
    for name, target in product(_distinct(summary, "set"), targets):
        lines = [line for line in summary.lines if (line.set, line.target) == (name, target)]
        found = dict.fromkeys(metric for line in lines for metric in line.figures if line.candidate not in REFERENCES)
        for metric in sorted(found, key=lambda one: USUAL.index(one) if one in USUAL else len(USUAL)):
            known = [one for one in lines if metric in one.figures and not math.isnan(one.figures[metric].value)]
            chart = Chart(name, target, metric, known)
            if metric not in (*NOT_AVERAGED, KEPT) and chart.series:
                yield chart


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
    for place, (name, lines) in enumerate(chart.series.items()):
        apart = (place - (len(chart.series) - 1) / 2) * _APART
        figures = [one.figures[chart.metric] for one in lines]
        reaches = [(one.value - one.low, one.high - one.value) for one in figures]
        bars = np.clip(np.nan_to_num(np.asarray(reaches).T), 0, None)
        axes.errorbar(
            [(one.kept or 0.0) + apart for one in lines], [one.value for one in figures], bars, label=name, capsize=2.5
        )
    axes.set_xlabel("share of the context's tokens kept")
    axes.set_ylabel(chart.title)
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def render(summary: Summary, info: Mapping[str, Any]) -> str:
    """The page. `info`: what the results are of, shown as a table; ``finished`` and ``model`` also in the head."""
    drawn, sets = list(charts(summary)), _distinct(summary, "set")
    template = environment(Path(__file__).parent, Path(cluster.report.__file__).parent).get_template("evaluation.html")
    return template.render(
        sets={name: [one for one in drawn if one.set == name] for name in sets},
        targets=[name for name in _distinct(summary, "target") if name],
        candidates=[name for name in _distinct(summary, "candidate") if name not in REFERENCES],
        tables=list(tables(summary)),
        rows={name: max(line.rows for line in summary.lines if line.set == name) for name in sets},
        rejected=sum(line.rejected for line in summary.lines if not line.target),
        baseline=summary.baseline,
        info=list(_flat(info)),
        finished=info.get("finished", ""),
        model=info.get("model", ""),
    )


def _distinct(summary: Summary, name: str) -> list[str]:
    return list(dict.fromkeys(getattr(line, name) for line in summary.lines))


def _flat(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything in `info` as pairs of words; what lies deeper under its own names."""
    for key, value in info.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
