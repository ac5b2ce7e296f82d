"""Surprisal is what a plain forward of transformers says, on every architecture, however it was computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, Program, Score
from lingua.models.causal import PackedScorer, PlainScorer
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer
from tests.models import PACKED, UNPACKED, WINDOW, tiny

RANDOM = np.random.default_rng(3)
TEXT = RANDOM.integers(3, 500, 400).tolist()


@pytest.fixture(scope="module", params=[*PACKED, *UNPACKED])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The scorer that is chosen for an architecture, and the same model untouched."""
    return causal_scorer(tiny(request.param)), tiny(request.param)


def forward(model: Any, ids: Sequence[int], probed: int) -> Answer:
    """The loss of the last `probed` tokens, as a user of transformers computes it."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0, :-1].float()
    return F.cross_entropy(logits, tokens[0, 1:], reduction="none").numpy()[-probed:]


@pytest.mark.parametrize("name", PACKED)
def test_an_architecture_with_the_attention_interface_runs_packed(name: str) -> None:
    assert type(causal_scorer(tiny(name))) is PackedScorer


@pytest.mark.parametrize("name", UNPACKED)
def test_an_architecture_without_it_runs_row_by_row_and_says_so(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert type(causal_scorer(tiny(name))) is PlainScorer
    assert "row by row" in caplog.text


def test_the_predictions_of_the_test_models_differ_from_token_to_token(pair: tuple[Any, Any]) -> None:
    assert forward(pair[1], TEXT[:60], 59).std() > 0.3


def test_packed_rows_of_all_lengths_equal_plain_forwards(pair: tuple[Any, Any]) -> None:
    scorer, model = pair
    cuts = [(0, 1, 3), (5, 20, 21), (30, 31, 70), (80, 120, 160), (200, 201, 202), (210, 250, 305)]
    rows = [BatchRow(Context((0,), TEXT[a:b]), TEXT[b:c]) for a, b, c in cuts]
    for (a, b, c), answer in zip(cuts, scorer.score(rows), strict=True):
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, forward(model, [0, *TEXT[a:c]], c - b), atol=1e-4)


def test_a_first_token_without_any_context_gets_the_logarithm_of_the_vocabulary(pair: tuple[Any, Any]) -> None:
    scorer, model = pair
    (answer,) = scorer.score([BatchRow(Context(), TEXT[:9])])
    assert answer[0] == pytest.approx(np.log(500))
    np.testing.assert_allclose(answer[1:], forward(model, TEXT[:9], 8), atol=1e-4)


def growing(head: tuple[int, ...], steps: Sequence[tuple[int, int]]) -> Program[list[Answer]]:
    """Commits and probes along TEXT, with a fork in between that commits something else."""
    context, answers, at = Context(head), list[Answer](), 0
    for commit, probe in steps:
        fork = context.fork()
        committed = TEXT[at : at + commit]
        at += commit
        asked = [Score(context, TEXT[at : at + probe], committed), Score(fork, TEXT[at : at + probe], committed[::-1])]
        answers += yield asked
    return answers


STEPS = [(0, 7), (5, 11), (1, 1), (20, 30), (0, 30), (13, 2)]


def test_cached_contexts_and_their_forks_equal_uncached_ones(pair: tuple[Any, Any]) -> None:
    scorer, model = pair
    (cached,) = Engine(scorer).run([growing((0,), STEPS)])
    (plain,) = Engine(PlainScorer(model)).run([growing((0,), STEPS)])
    for one, other in zip(cached, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("head", [(0,), ()], ids=["start token", "no start token"])
def test_cached_equals_uncached_where_the_window_slides(pair: tuple[Any, Any], head: tuple[int, ...]) -> None:
    scorer, model = pair
    plain_scorer = PlainScorer(model)
    scorer.window = plain_scorer.window = WINDOW
    steps = [(30, 40), (40, 20), (40, 48), (48, 90), (3, 5), (100, 10)]
    (cached,) = Engine(scorer).run([growing(head, steps)])
    (plain,) = Engine(plain_scorer).run([growing(head, steps)])
    for one, other in zip(cached, plain, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_batched_equals_alone_whatever_the_size_of_a_batch(pair: tuple[Any, Any]) -> None:
    _, model = pair
    many = [growing((0,), STEPS[start:]) for start in range(4)]
    together = list(Engine(causal_scorer(deepcopy(model), Allowance(2_000))).run(many))
    for start, answers in enumerate(together):
        (alone,) = Engine(causal_scorer(deepcopy(model), Allowance(13))).run([growing((0,), STEPS[start:])])
        for one, other in zip(answers, alone, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_a_device_out_of_memory_halves_the_batch_and_the_numbers_stay(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = causal_scorer(tiny(name))
    real = type(scorer)._start  # type: ignore[attr-defined]

    def limited(self: Any, rows: Sequence[BatchRow]) -> Any:
        if sum(len(row.probe) for row in rows) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, rows)

    monkeypatch.setattr(type(scorer), "_start", limited)
    answers = list(Engine(scorer).run([growing((0,), STEPS)]))
    monkeypatch.undo()
    (expected,) = Engine(PlainScorer(tiny(name))).run([growing((0,), STEPS)])
    for one, other in zip(answers[0], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert scorer.batch_tokens == 1_024
