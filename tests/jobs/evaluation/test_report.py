"""The page of an evaluation as a reader finds it: pictures that speak, numbers under them, nothing that could act."""

from __future__ import annotations

import math
import random
import re
from xml.etree import ElementTree

import pytest

from jobs.evaluation.report import Chart, charts, render, svg
from jobs.evaluation.rows import Measured
from jobs.evaluation.summary import Estimate, Line, Summary, interval, summarize
from tests.cluster.report.test_page import Reader

GAINS = {"sentence": 0.9, "rarity": 0.6, "random": 0.2}
INFO = {"finished": "2026-11-22", "model": "tiny", "settings": {"ask": ["nll"], "<b>": "<script>x</script>"}}


def measured(sets: tuple[str, ...] = ("squad", "nq")) -> list[Measured]:
    """Rows on which the candidates keep about `GAINS` of the advantage at half, and less at a quarter."""
    chance, found = random.Random(0), list[Measured]()
    for name in sets:
        for number in range(40):
            row, worth = f"{name}-{number}", chance.uniform(5, 15)
            found.append(Measured(row, name, "full", None, "gemma", {"nll": 5.0}))
            found.append(Measured(row, name, "nothing", None, "gemma", {"nll": 5.0 + worth}))
            for candidate, gain in GAINS.items():
                for rate in (0.5, 0.25):
                    kept = gain * (0.5 + rate) * chance.uniform(0.8, 1.2)
                    left = {"kept": rate - 0.01, "answer_kept": float(chance.random() < kept), "tokens": 9.0}
                    found.append(Measured(row, name, candidate, rate, "", left))
                    asked = {"nll": 5 + worth * (1 - kept), "f1": kept / 2}
                    found.append(Measured(row, name, candidate, rate, "gemma", asked))
    return found


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarize(measured(), "random", 200)


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    return render(summary, INFO)


def test_there_is_a_chart_for_every_metric_of_every_set(summary: Summary) -> None:
    found = [(one.set, one.target, one.metric) for one in charts(summary)]
    one_set = [("gemma", "share"), ("gemma", "f1"), ("", "answer_kept")]
    assert found == [(name, *rest) for name in ("squad", "nq") for rest in one_set]


def test_points_stand_where_tokens_were_kept_with_the_summarys_figures(summary: Summary) -> None:
    chart = next(charts(summary))
    assert list(chart.series) == list(GAINS)
    for candidate, lines in chart.series.items():
        assert [line.kept for line in lines] == pytest.approx([0.24, 0.49])
        assert {(line.set, line.candidate, line.target) for line in lines} == {("squad", candidate, "gemma")}
        assert all(
            line.figures["share"].low < line.figures["share"].value < line.figures["share"].high for line in lines
        )
    assert {name: figure.value for name, figure in chart.references.items()} == {"full": 1.0, "nothing": 0.0}


def test_a_picture_says_in_words_what_it_shows(summary: Summary) -> None:
    words = "share of the advantage by share of tokens kept, squad, asked of gemma"
    assert next(charts(summary)).words == f"{words}; for comparison: full 100% [100, 100], nothing 0% [0, 0]"


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert len(reader.all("img")) == 6
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in reader.all("img"))
    assert not [tag for tag, _ in reader.elements if tag in ("script", "iframe", "link", "object")]
    links = [value for _, attributes in reader.elements for name, value in attributes.items() if name.endswith("href")]
    assert all(str(link).startswith("#") for link in links)
    assert "default-src 'none'" in page


def test_every_reference_within_the_page_has_its_place_once(page: str) -> None:
    reader = Reader(page)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"(?:href=\"|url\()#([\w-]+)", page))
    assert wanted <= set(ids)


def test_pictures_have_names_and_numbers_for_who_cannot_see_them(page: str, summary: Summary) -> None:
    reader = Reader(page)
    for picture, chart in zip(reader.all("img"), charts(summary), strict=True):
        assert picture["alt"] == chart.words
    cells = [text for path, text in reader.texts if path and path[-1] in ("td", "th")]
    figures = {
        interval(line.figures[chart.metric], chart.metric).partition(" " if not chart.target else "\n")[0]
        for chart in charts(summary)
        for lines in chart.series.values()
        for line in lines
    }
    assert figures <= set(cells)


def test_names_from_outside_cannot_act(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page


def test_text_of_a_picture_is_escaped() -> None:
    line = Line('a"<b>&', 0.5, "<u>", "$x^2$ <i>", 0.5, 9, 0, {"f1": Estimate(0.5, 0.4, 0.6, 9)})
    picture = svg(Chart(line.set, "", "f1", [line]))
    ElementTree.fromstring(picture)
    assert "<i>" not in picture


@pytest.mark.parametrize("figure", [Estimate(0.5, math.nan, math.nan, 1), Estimate(0.5, 0.5, 0.5, 2)])
def test_a_figure_without_an_interval_is_drawn_as_a_mark(figure: Estimate) -> None:
    chart = Chart("squad", "", "f1", [Line("squad", 100.0, "one", "", 0.3, 9, 0, {"f1": figure})])
    assert "nan" not in svg(chart).lower()
    assert interval(figure, "f1").startswith("0.50")


def test_many_candidates_are_told_apart() -> None:
    figures = {"f1": Estimate(0.5, 0.4, 0.6, 9)}
    picture = svg(Chart("s", "", "f1", [Line("s", 0.5, f"candidate{n}", "", 0.5, 9, 0, figures) for n in range(12)]))
    assert all(f"<!-- candidate{n} -->" in picture for n in range(12))
    assert "stroke-dasharray" in picture


def test_the_same_results_make_the_same_page(summary: Summary, page: str) -> None:
    assert render(summary, INFO) == page


def test_an_evaluation_without_sizes_has_a_page_too() -> None:
    empty = summarize([Measured("1", "squad", "full", None, "gemma", {"nll": 1.0})], "random", 100)
    assert "Nothing was measured at any size" in render(empty, {})
