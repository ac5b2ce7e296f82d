"""Packed reading gives the numbers of a plain forward over each example, whatever the architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jobs.training.examples import Example
from jobs.training.packing import Tokens, tokenize
from jobs.training.surprisal import Reader
from tests import models
from tests.texts import PROSE

WORDS = PROSE.split()


def examples() -> list[Tokens]:
    texts = [Example(" ".join(WORDS[n : n + 2]), " " + " ".join(WORDS[n + 2 : n + 5 + n % 3])) for n in range(0, 30, 5)]
    return [tokens for tokens in tokenize(texts, models.tokenizer(), 40) if tokens is not None]


def plainly(model: Any, example: Tokens) -> np.ndarray[Any, Any]:
    """−ln p of the response's tokens by an ordinary forward over all ids."""
    ids = torch.from_numpy(example.ids)[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double()
    picked = torch.log_softmax(logits, -1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
    return np.asarray(-picked[example.first - 1 :])


@pytest.mark.parametrize("name", [*models.PACKED, *models.UNPACKED])
def test_packed_reading_equals_a_plain_forward_over_each_example(name: str) -> None:
    model, chosen = models.tiny(name), examples()
    found = Reader(model).each(chosen, 80)
    for example, values in zip(chosen, found, strict=True):
        np.testing.assert_allclose(values, plainly(model, example), atol=1e-4)


@pytest.mark.parametrize("name", models.PACKED)
def test_models_that_tell_examples_apart_by_position_read_them_together(name: str) -> None:
    assert Reader(models.tiny(name)).apart


@pytest.mark.parametrize("name", models.UNPACKED)
def test_models_without_positions_read_one_example_after_the_other(name: str) -> None:
    assert not Reader(models.tiny(name)).apart


def test_the_loss_sends_gradients_and_reading_does_not() -> None:
    model = models.tiny("llama").requires_grad_(True)
    reader = Reader(model)
    assert reader.surprisal(examples()[:2]).requires_grad
    assert all(weight.grad is None for weight in model.parameters())
