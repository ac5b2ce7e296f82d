"""The column from which rows are cut at any budget: written, audited, taken over, and refused where none can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.errors import PlanConflict
from cluster.input.columns import AT_A_RATE
from cluster.output.ledger import Ledger
from cluster.output.prepare import draft_plan
from cluster.output.reuse import open_previous
from cluster.output.verify import verify
from cluster.protocol import Assignment
from cluster.run.worker import Worker, load_compressor
from lingua import ConfigError, cut
from lingua.assemble import COLUMN, Order
from lingua.methods import models_digest
from lingua.models.source import resolve
from tests.cluster.forgery import rewritten
from tests.cluster.input.test_structured_columns import made, rows
from tests.cluster.jobs_for_tests import open_plan
from tests.models import save
from tests.texts import PROSE

FORMATS = ("parquet", "jsonl")
RATES = (0.5, 0.25, 0.8)
TEXTS = [" ".join(PROSE.split()[number:]) for number in range(4)] + ["short", ""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def job(folder: Path, model: Path, output: str = "out", **settings: Any) -> JobConfig:
    if not (path := folder / "rows.jsonl").exists():
        path.write_text("".join(json.dumps({"value": text}) + "\n" for text in TEXTS))
    chosen = {"method": "rarity", "keep_order": True, **settings}
    place = {"input": str(path), "output": str(folder / output), "model": str(model)}
    return JobConfig(text_column="value", device="cpu", **place, **chosen)


def ran(config: JobConfig) -> list[dict[str, Any]]:
    made(config, load_compressor, digest(config))
    return rows(config)


def several(folder: Path, model: Path, output: str = "out", rates: Any = RATES, **settings: Any) -> JobConfig:
    return job(folder, model, output, rate=rates, keep_order=None, **settings)


def reused(config: JobConfig) -> int:
    """Run the only shard of a job that reuses an earlier output; the rows that were there."""
    previous, ledger = open_previous(config, digest(config)), Ledger(config.output)
    plan = open_plan(config, digest(config), ledger)
    assert previous is not None
    Worker(config, plan, load_compressor, earlier=previous.earlier(plan, ())).run(Assignment(plan.shards[0]))
    return sum(record.reused for record in ledger.records())


def digest(config: JobConfig) -> str:
    return models_digest(resolve(config.model), config.compression)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_row_of_an_output_is_cut_as_the_job_cuts_it(tmp_path: Path, model: Path, output_format: str) -> None:
    found = ran(job(tmp_path, model, output_format=output_format, output_prefix="x_"))
    other = ran(job(tmp_path, model, "other", target_token=40, keep_order=False))
    assert list(found[0])[-1] == f"x_{COLUMN}"
    assert [cut(row, 40) for row in found] == [row["compressed_prompt"] for row in other]
    audit = verify(str(tmp_path / "out"))
    assert (audit.problems, audit.recounted) == ([], 4)  # as many as it draws


@pytest.mark.parametrize("output_format", FORMATS)
def test_each_further_rate_has_columns_as_a_run_at_that_rate_writes_them(
    tmp_path: Path, model: Path, output_format: str
) -> None:
    found = ran(several(tmp_path, model, output_format=output_format, output_prefix="x_"))
    for rate in RATES:
        other = ran(job(tmp_path, model, f"at-{rate}", rate=rate, keep_order=False))
        ending = "" if rate == RATES[0] else f"_{rate}"
        at_rate = [{name: row[f"x_{name}{ending}"] for name in AT_A_RATE} for row in found]
        assert at_rate == [{name: row[name] for name in AT_A_RATE} for row in other]
    assert verify(str(tmp_path / "out")).problems == []


def test_a_plan_goes_on_with_the_same_rates_alone(tmp_path: Path, model: Path) -> None:
    config = several(tmp_path, model)
    plan = open_plan(config, digest(config), Ledger(config.output))
    assert plan.columns.rates == RATES[1:]
    Worker(config, plan, load_compressor).run(Assignment(plan.shards[0]))
    assert draft_plan(config, digest(config), Ledger(config.output)) == plan
    with pytest.raises(PlanConflict, match=r"further_rates was \[0.25, 0.8\], now \[0.25\]"):
        draft_plan(several(tmp_path, model, rates=RATES[:2]), digest(config), Ledger(config.output))


def test_one_rate_is_what_it_was_and_each_of_several_stands_once(tmp_path: Path, model: Path) -> None:
    one = job(tmp_path, model, keep_order=False, rate=0.4).identity_settings()
    assert job(tmp_path, model, keep_order=False, rate=[0.4]).identity_settings() == one
    assert not {"further_rates", COLUMN} & one.keys()
    with pytest.raises(ConfigError, match="given twice"):
        several(tmp_path, model, rates=(0.5, 0.25, 0.5))
    with pytest.raises(ConfigError, match="rate = 7: must be at most 1"):
        several(tmp_path, model, rates=(0.5, 7))
    with pytest.raises(ConfigError, match="keep_order, and several rates, need scores for all budgets, but method ll"):
        several(tmp_path, model, method="llmlingua")


def test_rates_are_added_to_rows_that_an_earlier_output_has_scored(tmp_path: Path, model: Path) -> None:
    ran(job(tmp_path, model, "earlier", rate=RATES[0]))
    wanted = ran(several(tmp_path, model))
    config = several(tmp_path, model, "again", reuse=str(tmp_path / "earlier"))
    assert reused(config) == len(TEXTS)
    assert rows(config) == wanted


def test_the_audit_finds_a_text_that_is_not_of_its_rate(tmp_path: Path, model: Path) -> None:
    ran(several(tmp_path, model))
    (part,) = (tmp_path / "out").glob("part-*")
    rewritten(part, lambda found: [{**row, "compressed_prompt_0.25": "barges"} for row in found[:1]] + found[1:])
    (problem,) = verify(str(tmp_path / "out")).problems
    assert "row 0: keep_order does not make its compressed_prompt_0.25 at the budget of the run" in problem


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_audit_finds_an_order_of_another_text_and_one_that_cuts_otherwise(
    tmp_path: Path, model: Path, output_format: str
) -> None:
    ran(job(tmp_path, model, output_format=output_format))

    def forged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        orders = [row[COLUMN] for row in found]
        other = {**json.loads(orders[3]), "settings": {"method": "lead"}}
        changed = [orders[1], without_scores(orders[1]), "?", json.dumps(other)]
        return [{**row, COLUMN: order} for row, order in zip(found, [*changed, *orders[4:]], strict=True)]

    (part,) = (tmp_path / "out").glob("part-*")
    rewritten(part, forged)
    first, second, third, fourth = verify(str(tmp_path / "out")).problems
    assert "row 0: keep_order is not of the text in this row" in first
    assert "row 1: keep_order does not make its compressed_prompt at the budget of the run" in second
    assert "row 2: keep_order is not what a job wrote" in third
    assert "row 3: keep_order is of other settings or columns" in fourth


def without_scores(text: str) -> str:
    order = Order.read(text)
    for units in order.strings:
        units["score"] = 0
    return order.text


@pytest.mark.parametrize("output_format", FORMATS)
def test_reused_rows_bring_their_order_along(tmp_path: Path, model: Path, output_format: str) -> None:
    first = ran(job(tmp_path, model, output_format=output_format))
    config = job(tmp_path, model, "again", output_format=output_format, reuse=str(tmp_path / "out"))
    assert reused(config) == len(TEXTS)
    assert rows(config) == first
    assert verify(config.output).problems == []


def test_an_output_goes_on_with_an_order_or_without(tmp_path: Path, model: Path) -> None:
    ran(job(tmp_path, model))
    config = job(tmp_path, model, keep_order=False)
    with pytest.raises(PlanConflict, match="keep_order was true, now false"):
        draft_plan(config, digest(config), Ledger(config.output))
    later = job(tmp_path, model, "later", keep_order=False, reuse=str(tmp_path / "out"))
    with pytest.raises(PlanConflict, match="keep_order was true, now false"):
        open_previous(later, digest(later))


@pytest.mark.parametrize("column", ["question_column", "messages_column", "structured_column", "json_column"])
def test_rows_that_no_order_can_be_of_are_refused_by_their_column(column: str) -> None:
    with pytest.raises(ConfigError, match=f"keep_order serves questions that are not known yet, and {column} is given"):
        JobConfig(input="in", output="out", keep_order=True, **{column: "value"})


def test_a_question_that_is_mapped_by_its_name_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"context": ["a b"], "question": "c?"}) + "\n")
    config = JobConfig(input=str(tmp_path / "in.jsonl"), output=str(tmp_path / "out"), keep_order=True)
    with pytest.raises(ConfigError, match="and column 'question' is mapped; name the columns"):
        draft_plan(config, "d" * 32, Ledger(config.output))
