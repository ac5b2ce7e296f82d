"""`jobs.align` from rows to a model directory: what is learnt, from whom, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lingua import CompressionConfig, Compressor, Prompt
from tests import models
from tests.jobs.openai_server import Model, openai_server
from tests.jobs.training.runs import JOBS
from tests.texts import PROSE

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks
run = JOBS["align"].run


def test_the_model_learns_and_compresses_and_its_card_tells_data_settings_and_effect_and_no_path(
    tmp_path: Path,
) -> None:
    result = run(tmp_path, epochs=6, seed=7)
    assert result["after"]["perplexity"] < 0.7 * result["before"]["perplexity"]
    assert result["after"]["bits_per_byte"] < result["before"]["bits_per_byte"]
    assert result["losses"][-1] < result["losses"][0]
    assert result["after"]["agreement"] is None
    compressor = Compressor(str(tmp_path / "out" / "model"), CompressionConfig(method="llmlingua", rate=0.5))
    (outcome,) = compressor.compress([Prompt(context=[PROSE])])
    assert outcome.compressed_tokens < outcome.origin_tokens
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert "--method llmlingua --model DIRECTORY" in card  # the default method asks no model
    for told in (result["train_digest"], result["held_out_digest"], "seed: 7", f"{result['after']['perplexity']:.2f}"):
        assert told in card


def test_lora_changes_the_projections_and_nothing_else(tmp_path: Path) -> None:
    run(tmp_path, method="lora", lora_rank=2)
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "small").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_a_model_learns_from_what_a_target_wrote_and_agreement_is_measured(tmp_path: Path) -> None:
    target = models.save(tmp_path / "target", "qwen2")
    result = run(tmp_path, target=target, response_tokens=8, group=5, epochs=4)
    assert result["after"]["perplexity"] < result["before"]["perplexity"]
    assert result["after"]["compared"] > 0
    assert -1 <= result["after"]["agreement"] <= 1
    texts = [path.read_text() for path in (tmp_path / "out" / "responses").glob("group-*")]
    assert sum(len(text.splitlines()) for text in texts) == 24


def test_a_target_agrees_with_itself(tmp_path: Path) -> None:
    models.save(tmp_path / "small")
    result = run(tmp_path, target=tmp_path / "small", response_tokens=8, epochs=1, learning_rate=1e-9)
    assert result["before"]["agreement"] == pytest.approx(1)


def test_a_target_behind_an_endpoint_is_asked_once_for_every_row(tmp_path: Path) -> None:
    asked = Model()
    with openai_server(asked) as url:
        settings = {"target": "some-model", "endpoint": url, "endpoint_mode": "chat", "response_tokens": 8}
        result = run(tmp_path, **settings)
        run(tmp_path, **settings)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    contents = [request["messages"][0]["content"] for request in asked.requests]
    assert sorted(contents) == sorted(f"{row['instruction']}\n" for row in rows)
    assert result["after"]["agreement"] is None
    assert result["target_digest"] == f"chat:{url}:some-model"
