"""From measurements to lines and tables."""

from __future__ import annotations

import json

import pytest

from cluster.input.shards import parsed
from jobs.evaluation.rows import Measured, as_lines
from jobs.evaluation.summary import SHARE, Line, Summary, markdown, size_words, summarize

NLL = {"nothing": 10.0, "full": 2.0, "good": 4.0, "poor": 9.0}


def measurements(rows: int = 6) -> list[Measured]:
    """Two candidates of one set at one size, read by one target; each row is a little harder than the one before."""
    found = list[Measured]()
    for number in range(rows):
        for name, nll in NLL.items():
            size = None if name in ("nothing", "full") else 0.5
            kept = {"nothing": 0.0, "full": 1.0}.get(name, 0.48)
            found.append(Measured(f"r{number}", "cities", name, size, "", {"kept": kept, "tokens": 10, "asked": 0.5}))
            found.append(Measured(f"r{number}", "cities", name, size, "reader", {"nll": nll + number}))
    return found


def line(summary: Summary, candidate: str, target: str = "reader") -> Line:
    (found,) = [one for one in summary.lines if (one.candidate, one.target) == (candidate, target)]
    return found


def test_the_share_is_of_the_whole_contexts_advantage_over_none() -> None:
    summary = summarize(measurements(), "poor", 200)
    shares = {name: line(summary, name).figures[SHARE].value for name in NLL}
    assert shares == pytest.approx({"nothing": 0, "full": 1, "good": 0.75, "poor": 0.125})


def test_candidates_are_compared_with_the_baseline_on_the_same_rows() -> None:
    missing = [one for one in measurements() if not (one.row == "r0" and one.candidate == "poor")]
    against = line(summarize(missing, "poor", 200), "good").against[SHARE]
    assert (against.value, against.rows) == (pytest.approx(0.625), 5)


def test_references_and_the_baseline_itself_are_compared_with_nothing() -> None:
    summary = summarize(measurements(), "poor", 100)
    assert not line(summary, "poor").against
    assert not line(summary, "full").against


def test_rows_that_could_not_be_measured_are_counted() -> None:
    failed = Measured("r9", "cities", "good", 0.5, "", {}, {"rejected": "peer_failed: because"})
    found = line(summarize([*measurements(), failed], "poor", 100), "good", "")
    assert (found.rows, found.rejected) == (6, 1)


def test_a_metric_counts_only_the_rows_that_it_applies_to() -> None:
    extra = Measured("r0", "cities", "good", 0.5, "", {"answer_kept": 1.0})
    figure = line(summarize([*measurements(), extra], "poor", 100), "good", "").figures["answer_kept"]
    assert (figure.value, figure.rows) == (1.0, 1)


def test_without_a_reference_there_is_no_share() -> None:
    lonely = [one for one in measurements() if one.candidate != "full"]
    assert SHARE not in line(summarize(lonely, "poor", 100), "good").figures


def test_the_summary_is_plain_json() -> None:
    content = json.loads(json.dumps(summarize(measurements(), "poor", 100).as_json()))
    assert content["baseline"] == "poor"
    assert {one["candidate"] for one in content["lines"]} == set(NLL)


def test_a_figure_that_is_no_number_is_null_in_json() -> None:
    apart = [one for one in measurements() if (one.row == "r0") == (one.candidate == "full")]
    (own,) = [
        one for one in summarize(apart, "poor", 100).as_json()["lines"] if one["candidate"] == "good" and one["target"]
    ]
    assert own["figures"][SHARE] == {"value": None, "low": None, "high": None, "rows": 0}


def test_the_table_says_each_figure_once_per_candidate() -> None:
    text = markdown(summarize(measurements(), "poor", 200))
    cells = [[cell.strip() for cell in one.split("|")[1:-1]] for one in text.splitlines() if one.startswith("|")]
    rows = {first: rest for first, *rest in cells}
    assert "### cities, 50% of the context's tokens" in text
    assert rows["candidate"] == [
        "tokens kept",
        "reader: nll",
        "reader: share of the advantage",
        "against poor",
        "rows",
    ]
    assert rows["good"][0] == "0.48"
    assert rows["good"][2].startswith("75% [")
    assert rows["good"][3].startswith("+62% [") or rows["good"][3].startswith("+63% [")
    assert rows["full"][3] == rows["poor"][3] == ""
    assert rows["good"][-1] == "6"


def test_columns_of_a_table_are_even() -> None:
    lines = [one for one in markdown(summarize(measurements(), "poor", 100)).splitlines() if one.startswith("|")]
    assert len({len(one) for one in lines}) == 1


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.35, ", 35% of the context's tokens"), (446.0, ", 446 tokens of the context"), (None, "")],
)
def test_a_size_is_said_in_words(rate: float | None, words: str) -> None:
    assert size_words(rate) == words


def test_measurements_survive_their_file() -> None:
    strange = Measured("ü\u2028", "s", "c", None, "", {"b": 1 / 3, "a": 2.0}, {"context": '🙂\n"x"'})
    found = parsed(Measured, as_lines([strange]), "a row")
    assert found.values == {"a": 2.0, "b": pytest.approx(1 / 3)}
    assert (found.row, found.texts) == (strange.row, strange.texts)


def test_what_is_not_a_number_is_not_written() -> None:
    found = parsed(Measured, as_lines([Measured("a", "s", "c", 0.5, "", {"x": float("nan"), "y": 1.0})]), "a row")
    assert found.values == {"y": 1.0}
