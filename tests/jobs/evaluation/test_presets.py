"""Presets: each is an evaluation that can start, at the sizes of the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluation.settings import PRESETS, EvalConfig
from lingua.errors import ConfigError
from lingua.text.tokens import load_target


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_evaluation_that_can_start(name: str, tmp_path: Path) -> None:
    target = "gpt: url=http://localhost/v1 model=m"
    config = EvalConfig(data={"set": "rows.jsonl"}, output=str(tmp_path), targets=[target], preset=name)
    assert [candidate.name for candidate in config.candidates] == list(PRESETS[name]["candidates"])
    assert len(config.sizes) == 1
    assert config.ask == ("generate",)


def test_presets_have_the_sizes_of_the_papers() -> None:
    sizes = {name: (one.get("tokens") or one["rate"])[0] for name, one in PRESETS.items()}
    assert {sizes[f"gsm8k-{shot}"] for shot in ("1shot", "half-shot", "quarter-shot")} == {446, 171, 117}
    assert {sizes[f"bbh-{shot}"] for shot in ("1shot", "half-shot", "quarter-shot")} == {288, 171, 110}
    assert (sizes["sharegpt-3x"], sizes["arxiv-175"], sizes["nq-4x"]) == (1 / 3, 175, 1 / 4)


def test_the_demonstrations_of_gsm8k_have_the_papers_size(shared_data: Path) -> None:
    pytest.importorskip("tiktoken_ext")
    lines = (shared_data / "gsm8k" / "fewshot_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    hardest = next(one for one in map(json.loads, lines) if one["name"] == "prompt_hardest")
    tokens = load_target(PRESETS["gsm8k-1shot"]["tokenizer"], None).count("\n\n".join(hardest["demonstrations"]))
    assert abs(tokens - 2366) <= 1


def test_every_ablation_changes_something() -> None:
    settings = PRESETS["ablations"]["candidates"]
    config = EvalConfig(data={"set": "x"}, output="memory://out", candidates=settings)
    digests = [candidate.config().digest() for candidate in config.candidates]
    assert len(set(digests)) == len(settings)


def test_an_unknown_preset_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"preset = 'gsm8k': there is none of this name; there are gsm8k-1shot"):
        EvalConfig(data={"set": "x"}, output="memory://out", preset="gsm8k")
