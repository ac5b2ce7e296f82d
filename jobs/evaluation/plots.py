"""A `Chart` as an SVG that stands in a page: its text is text, its colours are the page's, light or dark.

Candidates differ in colour, mark and stroke, so that no one colour must be told from another. Points that were asked
for at the same size are set a little apart, else their intervals would lie upon each other.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.evaluation.bootstrap import Estimate
from jobs.evaluation.charts import Chart, Series, interval

LIGHT = ("#0a5aa8", "#b4460f", "#1b7a4a", "#8a3ea0", "#806200", "#b0256b", "#0f7483", "#555e6b")
DARK = ("#79b8ff", "#ffab70", "#7fd99a", "#d2a8ff", "#e3c35a", "#ff9ac1", "#6fd3e0", "#b5bec9")
INK, FAINT = "#1a1e24", "#c9ced6"
_MARKS, _STROKES = "osD^vPX*", ("-", "--", "-.", ":")
_WIDTH, _HEIGHT = 7.2, 3.6
_APART = 0.004
_SETTINGS: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


def svg(chart: Chart) -> str:
    """The picture as an ``svg`` element, labelled with `chart.words`."""
    salt = "p" + sha256(f"{chart.set} {chart.target} {chart.metric}".encode()).hexdigest()[:8]
    settings: Any = {**_SETTINGS, "svg.hashsalt": salt}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        FigureCanvasSVG(figure)
        _draw(figure, chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(text.getvalue(), chart.words, salt)


def style() -> str:
    """The colours of the series as CSS, for both schemes."""
    light, dark = (" ".join(f"--c{place}: {one};" for place, one in enumerate(all_)) for all_ in (LIGHT, DARK))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def _draw(figure: Figure, chart: Chart) -> None:
    axes = figure.add_subplot()
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    for (name, known), stroke in zip(chart.references.items(), cycle(((0, (5, 3)), (0, (1, 2)))), strict=False):
        axes.axhline(known.value, color=INK, linewidth=1, linestyle=stroke, label=name, zorder=1)
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
        color=LIGHT[place % len(LIGHT)],
        marker=_MARKS[place % len(_MARKS)],
        linestyle=_STROKES[place // len(LIGHT) % len(_STROKES)],
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


def _inlined(text: str, words: str, salt: str) -> str:
    """The ``svg`` element alone: labelled, as wide as its place, in colours that the page's scheme decides."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", _opening(r"\1", words), body, count=1, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"id=\"([\w.-]+)\"", rf'id="{salt}-\1"', body)
    body = re.sub(r"(url\(#|xlink:href=\"#|href=\"#)", rf"\g<1>{salt}-", body)
    for place, colour in enumerate(LIGHT):
        body = body.replace(colour, f"var(--c{place}, {colour})")
    return body.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace("'DejaVu Sans'", "system-ui").strip()


def _opening(box: str, words: str) -> str:
    label = words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\\", r"\\")
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg class="plot" role="img" aria-label="{label}" viewBox="{box}" {names}>'


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
