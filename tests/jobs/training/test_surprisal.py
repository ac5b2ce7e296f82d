"""Packs hold every example once, reading them gives the numbers of a plain forward, and agreement is a correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.rows import Example
from jobs.training.surprisal import Seen, Tokens, agreement, collate, keeps_apart, loss, pack, read, together, tokenize
from tests import models
from tests.texts import NASTY, PROSE

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=60)


@settings(deadline=None)
@given(LENGTHS)
def test_packs_hold_every_example_once_within_the_window_and_two_are_never_half_empty(lengths: list[int]) -> None:
    packs = pack(lengths, 40, seed=1)
    sizes = [sum(lengths[number] for number in one) for one in packs]
    assert sorted(number for one in packs for number in one) == list(range(len(lengths)))
    assert packs == pack(lengths, 40, seed=1)
    assert max(sizes) <= 40
    assert sum(size <= 20 for size in sizes[-32:]) <= 1


@pytest.mark.parametrize("text", [text for text in NASTY.values() if text.strip()])
def test_the_tokens_of_a_response_end_where_it_ends(text: str) -> None:
    (tokens,) = tokenize([Example("Say it: ", text)], models.tokenizer(), 4096)
    assert tokens is not None
    assert tokens.ends[-1] == len(text)
    assert len(tokens.ends) == len(tokens) - tokens.first == (tokens.labels != -100).sum()
    assert (tokens.ends > 0).all()


def test_ids_are_the_start_token_and_those_of_the_whole_text() -> None:
    before, response = "The committee met", " in Vienna on 14 March"
    (tokens,) = tokenize([Example(before, response)], models.tokenizer(), 96)
    plain = models.fast_tokenizer()(before + response, add_special_tokens=False).input_ids
    assert tokens is not None
    assert tokens.ids.tolist() == [0, *plain]
    assert models.fast_tokenizer().decode(tokens.ids[tokens.first :]) == response


def test_a_response_beyond_the_window_is_cut_and_one_wholly_beyond_it_left_out() -> None:
    examples = [Example("Ask", " and answer at some length"), Example("A very long question " * 9, "no")]
    cut, gone = tokenize(examples, models.tokenizer(), 8)
    assert cut is not None
    assert (len(cut), gone) == (8, None)
    assert cut.ends[-1] < len(examples[0].response)


# ---- reading

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
    expected = [plainly(model, example) for example in chosen]
    np.testing.assert_allclose(np.concatenate(read(model, chosen)), np.concatenate(expected), atol=1e-4)
    with torch.no_grad():
        found = together(model, chosen, keeps_apart(model))
    np.testing.assert_allclose(found.numpy(), np.concatenate(expected), atol=1e-4)


@pytest.mark.parametrize("name", models.PACKED)
def test_models_that_tell_examples_apart_by_position_read_them_together(name: str) -> None:
    assert keeps_apart(models.tiny(name))


@pytest.mark.parametrize("name", models.UNPACKED)
def test_models_without_positions_read_a_row_for_each_example(name: str) -> None:
    assert not keeps_apart(models.tiny(name))


@pytest.mark.parametrize("name", ["llama", *models.UNPACKED])
def test_the_shares_of_a_step_add_up_to_its_mean_and_nothing_to_read_adds_nothing(name: str) -> None:
    model, chosen = models.tiny(name), examples()
    apart, total = keeps_apart(model), torch.tensor(sum(len(one.ends) for one in chosen))
    parts = []
    for some in (chosen[:4], [], chosen[4:]):
        inputs = collate(some, apart)
        labels = inputs.pop("labels")
        parts.append(float(loss(model(**inputs), labels, total)))
    assert parts[1] == 0
    assert sum(parts) == pytest.approx(np.concatenate(read(model, chosen)).mean(), rel=1e-5)


# ---- agreement


def seen(ends: list[int], surprisal: list[float]) -> Seen:
    return Seen(np.asarray(ends), np.asarray(surprisal, np.float32))


def test_equal_tokens_with_equally_ordered_surprisal_agree_wholly() -> None:
    assert agreement(seen([2, 5, 9], [1, 2, 3]), seen([2, 5, 9], [10, 11, 50])) == pytest.approx(1)
    assert agreement(seen([2, 5, 9], [1, 2, 3]), seen([2, 5, 9], [3, 2, 1])) == pytest.approx(-1)


def test_other_tokens_are_compared_between_the_ends_that_both_have() -> None:
    """Common ends 4, 6, 8, 12: sums 3, 5, 1, 4 against 2, 9, 1, 8; ranks 2, 4, 1, 3 both times."""
    one = seen([2, 4, 6, 8, 9, 12], [1, 2, 5, 1, 3, 1])
    other = seen([4, 5, 6, 8, 12], [2, 4, 5, 1, 8])
    assert agreement(one, other) == pytest.approx(1)


def test_a_worked_example_with_ties() -> None:
    """Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4: covariance 4.5 / 4, variances 4.5 / 4 and 5 / 4."""
    one, other = seen([1, 2, 3, 4], [1, 1, 2, 3]), seen([1, 2, 3, 4], [1, 2, 3, 4])
    assert agreement(one, other) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20, width=32), st.integers(1, 5)), min_size=1, max_size=20))
def test_it_is_a_correlation_or_not_defined(tokens: list[tuple[float, int]]) -> None:
    ends = np.cumsum([size for _, size in tokens]).tolist()
    values = [value for value, _ in tokens]
    found = agreement(seen(ends, values), seen(ends, values[::-1]))
    assert found is None or -1.000001 <= found <= 1.000001


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen([1, 9], [1, 2]), seen([1, 9], [1, 2])),
        (seen([1, 2, 3, 9], [1, 2, 3, 4]), seen([4, 9], [1, 2])),
        (seen([1, 2, 3], [1, 1, 1]), seen([1, 2, 3], [1, 2, 3])),
    ],
    ids=["too short", "too few ends in common", "all equal"],
)
def test_where_ranks_say_nothing_there_is_no_agreement(one: Seen, other: Seen) -> None:
    assert agreement(one, other) is None


def test_characters_of_which_only_one_model_saw_all_do_not_count() -> None:
    """The other one's window ended at character 6."""
    assert agreement(seen([2, 4, 6, 8], [1, 2, 3, 0]), seen([2, 4, 6], [1, 2, 3])) == pytest.approx(1)
