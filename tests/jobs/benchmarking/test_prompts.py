"""The prompts that are measured: of the asked size, the same for the same seed."""

from __future__ import annotations

import random

import pytest

from jobs.benchmarking.prompts import (
    DEMONSTRATIONS,
    MIXES,
    Mix,
    MixSize,
    document,
    make_mix,
    paragraphs,
    problem,
)


def words(text: str) -> int:
    return len(text.split())


def sizes(mix: Mix) -> list[int]:
    return [words(prompt.text) for prompt in mix.prompts]


@pytest.mark.parametrize("name", sorted(MIXES))
def test_equal_seeds_make_equal_prompts_and_other_seeds_others(name: str) -> None:
    one, same, other = (make_mix(MixSize(name, 400), 3, seed, words) for seed in (1, 1, 2))
    assert one == same
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize("name", sorted(MIXES))
def test_a_mix_has_as_many_rows_as_asked(name: str) -> None:
    assert len(make_mix(MixSize(name, 100), 9, 0, words).prompts) == 9


@pytest.mark.parametrize(("name", "tokens"), [("short", 170), ("fewshot", 2_700), ("bank", 2_700), ("long", 6_000)])
def test_prompts_are_about_as_long_as_asked(name: str, tokens: int) -> None:
    found = sizes(make_mix(MixSize(name, tokens), 6, 0, words))
    assert 0.6 * tokens < sum(found) / len(found) < 1.5 * tokens  # of single ones it depends on what is installed


def test_long_documents_spread_from_5000_to_30000_tokens() -> None:
    found = sorted(sizes(make_mix(MixSize("long"), 4, 0, words)))
    assert found[0] < 7_000
    assert found[-1] > 24_000


def test_a_bank_shares_its_demonstrations_and_varies_the_question() -> None:
    prompts = make_mix(MixSize("bank"), 5, 0, words).prompts
    assert len({prompt.context for prompt in prompts}) == 1
    assert len({prompt.question for prompt in prompts}) == 5
    assert len(prompts[0].context) == DEMONSTRATIONS


def test_fewshot_rows_have_demonstrations_of_their_own() -> None:
    assert len({prompt.context for prompt in make_mix(MixSize("fewshot"), 5, 0, words).prompts}) == 5


def test_the_corpus_is_prose_without_repeats() -> None:
    found = paragraphs()
    assert len(found) > 300
    assert len(set(found)) == len(found)


def test_documents_end_at_a_word() -> None:
    text = document(500, random.Random(1))
    assert 400 < len(text) <= 500
    assert text == text.rstrip()


def test_worked_problems_come_out_right() -> None:
    text = problem(1_200, random.Random(4))
    steps = next(line for line in text.splitlines() if " = " in line)
    assert text.endswith(f"The answer is {steps.rsplit(' = ', 1)[1].rstrip('.')}.")
