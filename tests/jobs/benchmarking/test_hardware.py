"""Counting and timing: the stand-ins change no result, operations are those of the formulas, idle time is a union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from jobs.benchmarking.contenders import (
    SHAPES,
    Clock,
    MeasuredScorer,
    MeasuredTokenizer,
    Subject,
    plain_forward,
    random_model,
    trained_tokenizer,
)
from jobs.benchmarking.hardware import Batch, Roofline, Size, attainable, covered
from lingua.engine.score import Answer, BatchRow, Context, Scorer
from lingua.models.trial import causal_scorer
from lingua.text.tokens import SourceTokenizer


@dataclass
class Fixed(Scorer):
    """A scorer with half of every context cached."""

    window: int = 100
    batch_tokens: int = 50
    live_tokens: int = 1_000
    probe_tokens: int = 50

    def cached(self, context: Context) -> int:
        return len(context) // 2

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        return [np.full(len(row.probe), 2.0, np.float32) for row in rows]


def tiny() -> Subject:
    config = SHAPES["tiny"]()
    model = random_model(config, torch.device("cpu"), torch.float32, seed=0)
    return Subject("tiny", model, trained_tokenizer(config), None)


def test_a_measured_scorer_counts_what_is_not_cached() -> None:
    scorer = MeasuredScorer(Fixed(), Clock())
    answers = scorer.score([BatchRow(Context(ids=[1, 2, 3, 4]), [5, 6, 7]), BatchRow(Context(), [8])])
    assert [answer.tolist() for answer in answers] == [[2.0] * 3, [2.0]]
    pairs = (3 + 4 + 5 + 6 + 7) + 1  # five new tokens after two cached ones, and one alone
    assert scorer.batches == [Batch(tokens=6, scored=4, pairs=pairs)]


def test_smaller_batches_reach_the_real_scorer() -> None:
    inner = Fixed()
    MeasuredScorer(inner, Clock()).batch_tokens = 7
    assert inner.batch_tokens == 7


def test_a_measured_tokenizer_gives_the_same_tokens_and_takes_the_time() -> None:
    tokenizer, clock = trained_tokenizer(SHAPES["tiny"]()), Clock()
    measured, plain = MeasuredTokenizer(tokenizer, clock), SourceTokenizer(tokenizer)
    text = "Some text, and some more."
    assert measured.encode([text])[0].ids.tolist() == plain.encode([text])[0].ids.tolist()
    assert measured.count(text) == plain.count(text)
    assert measured.starts(text).tolist() == plain.starts(text).tolist()
    assert clock.seconds["tokenize"] > 0


def test_operations_are_two_per_parameter_and_four_per_pair_and_channel() -> None:
    model = tiny().model
    size = Size.of(model)
    matrices = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name)
    assert size.body == matrices
    assert size.head == 600 * 16
    assert size.operations(Batch(10, 4, 30)) == 2 * matrices * 10 + 2 * 600 * 16 * 4 + 4 * 2 * 16 * 30


def test_tied_embeddings_are_counted_once() -> None:
    config = SHAPES["tiny"]()
    config.tie_word_embeddings = True
    model = random_model(config, torch.device("cpu"), torch.float32, seed=0)
    assert Size.of(model).body == Size.of(tiny().model).body
    assert Size.of(model).head == 600 * 16


def test_small_batches_are_bound_by_the_weights_passing_through_memory() -> None:
    size = Size(body=1_000, head=0, width=0, bytes=4_000)
    roof = Roofline(operations=1e6, bytes=1e6)
    assert attainable([Batch(1, 1, 0)], size, roof) == pytest.approx(4_000 / 1e6)
    assert attainable([Batch(100, 1, 0)], size, roof) == pytest.approx(2 * 1_000 * 100 / 1e6)


def test_the_plain_forward_leaves_the_packed_model_as_it_was() -> None:
    subject = tiny()
    scorer = causal_scorer(subject.model)
    before = scorer.score([BatchRow(Context(), [5, 6, 7, 8])])[0]
    assert plain_forward(subject, tokens=64, length=16, batch_tokens=32) > 0
    np.testing.assert_array_equal(scorer.score([BatchRow(Context(), [5, 6, 7, 8])])[0], before)


def test_overlapping_kernels_count_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert covered([]) == 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("smollm2-135m", 134.5e6), ("llama-2-7b", 6_738e6)],
)
def test_shapes_have_the_published_number_of_parameters(name: str, parameters: float) -> None:
    model = random_model(SHAPES[name](), torch.device("meta"), torch.bfloat16, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(parameters, rel=0.005)


def test_the_encoder_shape_is_a_classifier_of_the_published_size() -> None:
    model = random_model(SHAPES["xlm-roberta-large"](), torch.device("meta"), torch.bfloat16, seed=0)
    assert model.config.num_labels == 2
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(559e6, rel=0.005)
