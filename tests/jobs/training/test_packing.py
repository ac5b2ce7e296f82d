"""Packing keeps every example whole, once an epoch, in an order that the seed decides alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.examples import Example
from jobs.training.packing import make_steps, pack, tokenize
from tests import models
from tests.texts import NASTY

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=60)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_every_example_is_seen_once_an_epoch(lengths: list[int], packs: int, seed: int, epochs: int) -> None:
    steps = make_steps(lengths, 40, packs, seed, epochs)
    seen = Counter(index for step in steps for pack in step for index in pack)
    assert seen == dict.fromkeys(range(len(lengths)), epochs)
    assert steps == make_steps(lengths, 40, packs, seed, epochs)
    assert all(1 <= len(step) <= packs for step in steps)


@settings(deadline=None)
@given(LENGTHS)
def test_no_pack_is_longer_than_the_window_and_two_are_never_half_empty(lengths: list[int]) -> None:
    sizes = [sum(lengths[index] for index in one) for one in pack(range(len(lengths)), lengths, 40)]
    assert max(sizes) <= 40
    assert sum(size <= 20 for size in sizes[-32:]) <= 1


def test_another_seed_and_another_epoch_give_another_order() -> None:
    lengths = [10] * 40
    first, second = make_steps(lengths, 40, 5, 0, 2)[:2], make_steps(lengths, 40, 5, 0, 2)[2:]
    assert first != second
    assert first != make_steps(lengths, 40, 5, 1, 1)


@pytest.mark.parametrize("text", [text for text in NASTY.values() if text.strip()])
def test_the_tokens_of_a_response_end_where_it_ends(text: str) -> None:
    (tokens,) = tokenize([Example("Say it: ", text)], models.tokenizer(), 4096)
    assert tokens is not None
    assert tokens.ends[-1] == len(text)
    assert len(tokens.ends) == tokens.predicted == len(tokens) - tokens.first
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
