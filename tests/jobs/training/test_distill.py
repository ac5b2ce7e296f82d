"""`jobs.distill` from rows to a model directory: what the student learns and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingua import CompressionConfig, Compressor, Prompt
from tests import models
from tests.jobs.training.runs import JOBS, LONG_WORD
from tests.texts import PROSE

run = JOBS["distill"].run


def test_the_student_learns_what_the_teacher_keeps_and_compresses_so(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=20)
    found = result["agreement"]
    assert found["auc"] > 0.9
    assert found["f1"] > found["chance"] + 0.25
    assert result["losses"][-1] < 0.7 * result["losses"][0]
    compressor = Compressor(str(tmp_path / "out" / "model"), CompressionConfig(method="llmlingua2", rate=0.4))
    (labels,) = compressor.word_labels([Prompt(context=[PROSE])])
    scores = {kind: [one.score for one in labels[0] if _is_long(one.text) is kind] for kind in (True, False)}
    assert sum(scores[True]) / len(scores[True]) > 0.2 + sum(scores[False]) / len(scores[False])


def _is_long(word: str) -> bool:
    return len(word.strip()) > LONG_WORD


def test_surprisal_of_a_causal_model_is_learnt_by_its_rank(tmp_path: Path) -> None:
    model = models.save(tmp_path / "causal")
    result = run(tmp_path, teacher="compressor", teacher_model=model, epochs=10)
    assert result["agreement"]["spearman"] > 0.2
    lines = (tmp_path / "out" / "labels" / "group-000000.jsonl").read_text().splitlines()
    assert max(score for line in lines for score in json.loads(line)["scores"]) > 1


def test_labels_of_one_run_are_the_input_of_another(tmp_path: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, "again", teacher="labels", input=tmp_path / "out" / "labels")
    assert second["losses"] == pytest.approx(first["losses"])
    assert second["agreement"] == first["agreement"]


def test_the_card_tells_settings_and_agreement_and_no_output_path(tmp_path: Path) -> None:
    result = run(tmp_path, seed=7)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert f"F1 {result['agreement']['f1']:.3f}" in card
    assert "seed: 7" in card
    assert str(tmp_path) not in card
