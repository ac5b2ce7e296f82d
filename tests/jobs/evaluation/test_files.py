"""The ledger of an evaluation: it goes on with the same, refuses another, and commits once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DamagedFile, PlanConflict
from jobs.evaluation.ledger import EvalLedger, Unit
from jobs.evaluation.rows import Measured
from tests.jobs.evaluation.samples import ROW

IDENTITY = {"rate": [0.5], "candidate lead": {"method": "lead"}, "model_digest": "digest"}
UNIT = Unit("cities", "lead", "", 0, 1)


@pytest.fixture
def ledger(tmp_path: Path) -> EvalLedger:
    ledger = EvalLedger(str(tmp_path / "out"))
    ledger.begin(IDENTITY)
    ledger.store({"cities": [ROW]})
    return ledger


def test_workers_read_the_rows_that_were_chosen(ledger: EvalLedger) -> None:
    assert ledger.rows("cities") == [ROW]


def test_the_same_plan_goes_on(ledger: EvalLedger) -> None:
    EvalLedger(ledger.url).begin(IDENTITY)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({**IDENTITY, "rate": [0.2]}, r"rate was \[0.5\], now \[0.2\]"),
        ({"rate": [0.5]}, r"candidate lead was .* now null"),
        ({**IDENTITY, "model_digest": "other"}, r'model_digest was "digest", now "other"'),
    ],
)
def test_another_plan_is_refused_with_what_differs(ledger: EvalLedger, other: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanConflict, match=message):
        ledger.begin(other)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(PlanConflict, match=r"holds thesis\.tex"):
        EvalLedger(str(tmp_path)).begin(IDENTITY)


def test_a_damaged_plan_is_named(ledger: EvalLedger) -> None:
    Path(ledger.url, "_plan.json").write_text("{")
    with pytest.raises(PlanConflict, match=r"_plan\.json is damaged"):
        ledger.begin(IDENTITY)


def test_a_unit_is_committed_once_and_the_first_counts(ledger: EvalLedger) -> None:
    mine, other = (Measured("curie", "cities", "lead", 0.5, "", {"kept": kept}) for kept in (0.4, 0.5))
    assert not ledger.is_committed(UNIT.name)
    assert ledger.commit(UNIT, [mine]) == "committed"
    assert ledger.commit(UNIT, [other]) == "already"
    assert ledger.committed() == {UNIT.name}
    assert ledger.unit(UNIT) == list(ledger.measured([UNIT])) == [mine]


def cut(ledger: EvalLedger, unit: Unit) -> None:
    """Take the last line from the file of a unit."""
    file = Path(ledger.url, "measured", f"{unit.name}.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("target", ["", "reader"])
def test_a_unit_that_was_cut_at_the_end_of_a_line_is_named(ledger: EvalLedger, target: str) -> None:
    unit = replace(UNIT, sizes=(0.5, 0.2))
    kept = [Measured("curie", "cities", "lead", size, "", {}, {"context": "a"}) for size in unit.sizes]
    ledger.commit(unit, kept)
    asked = replace(unit, target=target)
    ledger.commit(asked, [replace(one, target=target) for one in kept])
    assert len(ledger.unit(asked)) == 2
    cut(ledger, asked)
    with pytest.raises(DamagedFile, match=rf"{asked.name}\.jsonl is damaged \(1 of its lines are missing\); delete it"):
        list(ledger.measured([asked]))


def test_what_targets_were_asked_about_is_read_once(ledger: EvalLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    left = Measured("curie", "cities", "lead", None, "", {}, {"context": "a"})
    units = [UNIT, *(replace(UNIT, target=name) for name in ("reader", "writer"))]
    for unit in units:
        ledger.commit(unit, [replace(left, target=unit.target)])
    asked, read = list[str](), ledger.read
    monkeypatch.setattr(ledger, "read", lambda name: asked.append(name) or read(name))
    assert [one.target for one in ledger.measured(units)] == ["", "reader", "writer"]
    assert asked == [f"measured/{unit.name}.jsonl" for unit in units]


def test_rows_that_a_candidate_left_nothing_of_are_not_missed_where_a_target_is_asked(ledger: EvalLedger) -> None:
    ledger.commit(UNIT, [Measured("curie", "cities", "lead", None, "", {}, {"rejected": "too_long: as yet"})])
    asked = replace(UNIT, target="reader")
    ledger.commit(asked, [])
    assert ledger.unit(asked) == []


def test_chosen_rows_that_were_cut_are_told_before_workers_read_them(ledger: EvalLedger) -> None:
    Path(ledger.url, "_rows", "cities.jsonl").write_text("")
    with pytest.raises(DamagedFile, match=r"_rows/cities\.jsonl is damaged \(it holds other rows\); delete it"):
        ledger.store({"cities": [ROW]})


def test_what_a_dead_attempt_left_is_no_commit_and_is_removed(ledger: EvalLedger) -> None:
    ledger.commit(UNIT, [])
    left = Path(ledger.url, "measured", "_tmp-1-x.jsonl")
    left.write_text("{")
    assert ledger.committed() == {UNIT.name}
    ledger.clean()
    assert not left.exists()
