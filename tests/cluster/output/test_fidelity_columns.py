"""Fidelity from the engine to the output: the column, the gate's status, the sample, and what is added up of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.output.records import Statistics
from cluster.output.verify import verify
from cluster.report.page import gather, render, unsampled
from cluster.report.statistics import RunReport, facts
from cluster.run.worker import load_compressor
from tests.cluster.input.test_structured_columns import configured, made, rows
from tests.models import save
from tests.texts import PROSE

ROWS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def ran(folder: Path, model: Path, column: str = "text_column", **settings: Any) -> tuple[JobConfig, Statistics]:
    """Prose of several lengths, or JSON that holds it, compressed by a small real model."""
    texts = [" ".join(PROSE.split()[number:]) for number in range(ROWS - 1)]
    values = [*texts, "short"] if column == "text_column" else [{"id": n, "body": text} for n, text in enumerate(texts)]
    lines = [json.dumps({"value": value}) for value in values]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    config = configured(folder / "rows.jsonl", column, model=str(model), device="cpu", dtype="float32", **settings)
    made(config, load_compressor)
    return config, Statistics.over(Ledger(config.output).records())


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_every_row_says_its_fidelity_and_the_sum_is_its_records(
    tmp_path: Path, model: Path, output_format: str
) -> None:
    config, total = ran(tmp_path, model, rate=0.4, method="rarity", output_format=output_format)
    found = rows(config)
    assert [row["status"] for row in found] == ["compressed"] * (ROWS - 1) + ["over_budget"]  # one word stays whole
    assert all(0 < row["fidelity"] < 1 for row in found[:-1])
    assert total.mean_fidelity == pytest.approx(sum(row["fidelity"] for row in found) / ROWS)
    assert (total.sampled, total.mean_predicted) == (0, None)
    assert verify(config.output).problems == []


@pytest.mark.parametrize("column", ["text_column", "json_column"])
def test_rows_that_would_lose_too_much_are_relaxed_and_counted_as_such(
    tmp_path: Path, model: Path, column: str
) -> None:
    config, total = ran(tmp_path, model, column, rate=0.2, method="rarity", min_fidelity=0.7)
    relaxed = [row for row in rows(config) if row["status"] == "relaxed"]
    assert len(relaxed) == total.relaxed >= ROWS - 2
    assert all(row["fidelity"] >= 0.7 and row["rate"] > 0.2 for row in relaxed)
    if column == "json_column":
        assert json.loads(relaxed[2]["compressed_prompt"])["id"] == relaxed[2]["value"]["id"]
    assert verify(config.output).problems == []


def test_the_sample_reaches_statistics_and_report(tmp_path: Path, model: Path) -> None:
    config, total = ran(tmp_path, model, rate=0.4, method="selective", fidelity_sample=1.0)
    assert 0 < total.sampled <= ROWS  # to random weights having read the text is no help with some rows: not counted
    assert total.mean_predicted is not None
    ledger = Ledger(config.output)
    plan = ledger.plan()
    assert plan is not None
    report = RunReport(len(plan.shards), total, total, 1.0)
    ledger.write_stats(report.as_json(facts(config, plan)))
    assert ledger.statistics()["fidelity_sample"]["rows"] == total.sampled
    page = render(gather(ledger))
    assert f"Of {total.sampled} sampled rows the model was asked" in page


def test_why_there_is_no_sample_is_said() -> None:
    assert unsampled("llmlingua", 0.01) is None
    assert unsampled("rarity", 0.01) == "method rarity has no causal model to ask"
    assert unsampled("llmlingua2", 0.01) == "method llmlingua2 has no causal model to ask"
    assert unsampled("llmlingua", 0.0) == "fidelity_sample is 0"
