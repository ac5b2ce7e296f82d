"""Keep probabilities of token classifiers: equal to a plain forward, batched without waste, refused where untrained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertModel,
    ModernBertModel,
    PreTrainedConfig,
)

from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, OutOfMemoryError, Program, Score
from lingua.errors import ModelError
from lingua.models.encoders import EncoderScorer, keep_label
from lingua.models.load import Loader
from lingua.models.sizing import Allowance
from lingua.models.source import resolve
from tests.lingua.models.encoders import ARCHITECTURES, LINES, save_encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {name: save_encoder(root / name, name, LINES) for name in ARCHITECTURES}


@pytest.fixture
def scorer(folders: dict[str, Path]) -> EncoderScorer:
    return load(folders["modernbert"])


def load(folder: Path, batch_tokens: int | None = None) -> EncoderScorer:
    scorer = Loader(resolve(str(folder)), "cpu", "float32").scorer("encoder", Allowance(batch_tokens))
    assert isinstance(scorer, EncoderScorer)
    return scorer


def rows(*sizes: int) -> list[BatchRow]:
    draw = np.random.default_rng(0)
    return [BatchRow(Context(), draw.integers(5, 80, size).tolist()) for size in sizes]


def plain(folder: Path, ids: list[int]) -> Answer:
    """The definition: one text, its special tokens, one forward, the softmax at label 1."""
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.tensor([text])).logits[0, 1:-1]
    return torch.softmax(logits, -1)[:, 1].numpy()


def shapes(scorer: EncoderScorer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (rows, tokens) of every forward from now on."""
    seen: list[tuple[int, int]] = []
    forward = scorer.model.forward

    def watched(input_ids: Any, **arguments: Any) -> Any:
        seen.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **arguments)

    monkeypatch.setattr(scorer.model, "forward", watched)
    return seen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_probabilities_in_a_mixed_batch_are_those_of_each_window_alone(
    folders: dict[str, Path], architecture: str
) -> None:
    asked = rows(3, 62, 17, 1, 60, 20)
    for row, answer in zip(asked, load(folders[architecture]).score(asked), strict=True):
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, plain(folders[architecture], list(row.probe)), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_window_uses_every_position_of_the_model_and_leaves_room_for_special_tokens(
    folders: dict[str, Path], architecture: str
) -> None:
    scorer = load(folders[architecture])
    assert (scorer.window, scorer.probe_tokens) == (64, 62)
    assert len(scorer.score(rows(scorer.probe_tokens))[0]) == 62


def test_windows_of_like_length_share_a_batch_padded_to_its_longest(
    scorer: EncoderScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = shapes(scorer, monkeypatch)
    scorer.score(rows(10, 58, 9, 60, 10, 55))
    assert seen == [(3, 62), (3, 12)]


def test_a_batch_never_holds_more_than_its_tokens_padding_included(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = load(folders["modernbert"], batch_tokens=200)
    seen = shapes(scorer, monkeypatch)
    scorer.score(rows(*[60] * 7))
    assert seen == [(3, 62), (3, 62), (1, 62)]


def test_the_engine_halves_its_batches_when_memory_runs_out_and_answers_the_same(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, scorer = load(folders["modernbert"]).score(rows(*[60] * 6)), load(folders["modernbert"])
    forward = scorer.model.forward

    def small(input_ids: Any, **arguments: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("too many rows")
        return forward(input_ids=input_ids, **arguments)

    monkeypatch.setattr(scorer.model, "forward", small)
    with pytest.raises(OutOfMemoryError):
        scorer.score(rows(*[60] * 6))

    def program() -> Program[list[Answer]]:
        return (yield [Score(row.context, row.probe) for row in rows(*[60] * 6)])

    (answers,) = Engine[list[Answer]](scorer).run([program()])
    np.testing.assert_allclose(np.stack(answers), np.stack(expected), atol=1e-5)


def test_a_single_window_that_does_not_fit_the_memory_is_an_error_with_the_remedy(
    scorer: EncoderScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(**arguments: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(scorer.model, "forward", none)
    with pytest.raises(ModelError, match="use a smaller model"):
        scorer.score(rows(60))


@pytest.mark.parametrize(
    ("labels", "keep"),
    [
        (("LABEL_0", "LABEL_1"), 1),  # LLMLingua-2
        (("drop", "keep"), 1),  # ctxprune
        (("KEEP", "DROP"), 0),
        (("LABEL_0", "drop"), 0),
    ],
)
def test_the_label_that_counts_is_called_keep_or_not_called_drop_or_is_the_second(
    labels: tuple[str, str], keep: int
) -> None:
    assert keep_label(PreTrainedConfig(id2label=dict(enumerate(labels)), label2id=None)) == keep


def test_the_probability_is_that_of_the_label_called_keep(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", LINES, id2label={0: "KEEP", 1: "DROP"})
    (row,) = rows(20)
    np.testing.assert_allclose(load(tmp_path).score([row])[0], 1 - plain(tmp_path, list(row.probe)), atol=1e-5)


def test_a_classifier_with_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this model has 1"):
        load(save_encoder(tmp_path, "bert", LINES, num_labels=1))


def test_a_model_without_a_trained_head_is_refused_instead_of_given_a_random_one(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    BertModel.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no token classifier"):
        load(tmp_path)


def test_heads_that_are_no_token_classifiers_of_transformers_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["modernbert"], tmp_path, dirs_exist_ok=True)
    encoder = ModernBertModel.from_pretrained(folders["modernbert"]).state_dict()
    heads = {"token_head.weight": torch.zeros(2, 32), "span_conv.0.weight": torch.zeros(4, 32, 5)}
    save_file({**{f"encoder.{name}": one for name, one in encoder.items()}, **heads}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no token classifier"):
        load(tmp_path)
