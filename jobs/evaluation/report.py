"""`render`: the summary of an evaluation as one HTML page with its pictures inside, for any browser without a network.

Looks as the page of a run of the main job and shares its style. Every picture has its numbers in a table below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

import cluster.page
from cluster.page.templates import environment
from jobs.evaluation.charts import Chart, charts
from jobs.evaluation.measured import REFERENCES
from jobs.evaluation.plots import figures_of, style, svg
from jobs.evaluation.table import Summary

_FOLDERS = (Path(__file__).parent, Path(cluster.page.__file__).parent)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with its picture and its numbers."""

    chart: Chart
    picture: Markup
    rows: list[tuple[str, str, str, str, int]]

    @classmethod
    def of(cls, chart: Chart) -> Drawn:
        rows = [(one.candidate, *figures) for one in chart.series for figures in figures_of(one)]
        return cls(chart, Markup(svg(chart)), rows)


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
        colours=Markup(style()),
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
