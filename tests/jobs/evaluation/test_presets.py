"""Presets: each is an evaluation that can start, at the sizes of the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluation.forms import FORMS
from jobs.evaluation.metrics import METRICS, metrics_of
from jobs.evaluation.presets import ABLATIONS, PRESETS, preset
from jobs.evaluation.settings import EvalConfig
from lingua.errors import ConfigError
from lingua.text.tokens import load_target
from tests.jobs.evaluation.test_textual import row


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_evaluation_that_can_start(name: str, tmp_path: Path) -> None:
    one = PRESETS[name]
    given = {
        "data": {"set": "rows.jsonl"},
        "output": str(tmp_path),
        "targets": ["gpt: url=http://localhost/v1 model=m"],
    }
    config = EvalConfig(**given, **one.settings())
    assert [candidate.name for candidate in config.candidates] == list(one.candidates)
    assert config.sizes == (one.rate or tuple(map(float, one.tokens)))
    assert (config.ask, config.max_tokens, config.stop) == (("generate",), one.max_tokens, one.stop)
    assert one.form in FORMS
    assert set(one.metrics) <= METRICS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_measures_what_its_set_is_measured_by(name: str) -> None:
    one = PRESETS[name]
    assert tuple(metrics_of(row("nq-20docs" if one.form == "nq" else one.form, "x"))) == one.metrics


def test_the_demonstrations_of_gsm8k_have_the_papers_size(shared_data: Path) -> None:
    pytest.importorskip("tiktoken_ext")
    lines = (shared_data / "gsm8k" / "fewshot_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    hardest = next(one for one in map(json.loads, lines) if one["name"] == "prompt_hardest")
    tokens = load_target(PRESETS["gsm8k-1shot"].tokenizer, None).count("\n\n".join(hardest["demonstrations"]))
    assert abs(tokens - 2366) <= 1


def test_every_ablation_changes_something() -> None:
    settings = PRESETS["ablations"].settings()["candidates"]
    config = EvalConfig(data={"set": "x"}, output="memory://out", candidates=settings)
    digests = [candidate.config().digest() for candidate in config.candidates]
    assert len(set(digests)) == len(ABLATIONS)


def test_an_unknown_preset_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"preset = 'gsm8k': there is none of this name; there are gsm8k-1shot"):
        preset("gsm8k")
