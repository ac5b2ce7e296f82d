"""The baselines without a model: what each keeps, and the laws of every method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.methods import METHODS
from lingua.prompt import CompressedPrompt, Prompt
from lingua.text.units import self_information
from tests.lingua.echo import NASTY, compress, tokenizer

DOCUMENTS = tuple(" ".join(f"{name}{n}" for n in range(60)) for name in ("alpha", "beta", "gamma"))

BASELINES = ("random", "truncate", "lead", "rarity")


def one(prompt: Prompt, method: str, **settings: object) -> CompressedPrompt:
    (outcome,) = compress([prompt], method=method, **settings)
    assert isinstance(outcome, CompressedPrompt)
    return outcome


def test_they_need_no_model() -> None:
    assert {METHODS[name].needs for name in BASELINES} == {"nothing"}


def test_truncate_keeps_the_beginning_of_the_prompt() -> None:
    outcome = one(Prompt(context=DOCUMENTS), "truncate", rate=0.5)
    assert outcome.kept_context == (0, 1)
    assert outcome.context[0] == DOCUMENTS[0]
    beginning, _, last = outcome.context[1].rpartition(" ")
    assert DOCUMENTS[1].startswith(beginning)
    assert last in DOCUMENTS[1]


def test_lead_keeps_the_same_share_of_every_beginning() -> None:
    outcome = one(Prompt(context=DOCUMENTS), "lead", rate=0.5)
    assert outcome.kept_context == (0, 1, 2)
    for text, whole in zip(outcome.context, DOCUMENTS, strict=True):
        assert whole.startswith(text.rpartition(" ")[0])
        assert tokenizer().count(text) / tokenizer().count(whole) == pytest.approx(0.5, abs=0.06)


def test_random_depends_on_the_text_alone() -> None:
    together = compress([Prompt(context=DOCUMENTS), Prompt(context=DOCUMENTS[:2])], method="random")
    assert together == [one(Prompt(context=DOCUMENTS), "random"), one(Prompt(context=DOCUMENTS[:2]), "random")]
    assert (
        one(Prompt(context=(DOCUMENTS[0] + ".",)), "random").kept_spans
        != one(Prompt(context=(DOCUMENTS[0],)), "random").kept_spans
    )


def test_random_favours_neither_long_words_nor_early_ones() -> None:
    text = " ".join("incomprehensibilities" if n % 2 else "a" for n in range(600))
    outcome = one(Prompt(context=(text,)), "random", rate=0.5)
    kept = outcome.context[0].split()
    assert 0.4 < kept.count("a") / 300 < 0.6
    starts = [start for start, _ in outcome.kept_spans[0]]
    assert 0.4 < np.mean(starts) / len(text) < 0.6


def test_rarity_keeps_rare_words_and_drops_repeated_ones() -> None:
    text = "the zebra the quiz the vixen of the jackdaw the sphinx of the quartz " + "and the price of the coal " * 10
    kept = one(Prompt(context=(text,)), "rarity", rate=0.4).context[0]
    assert all(word in kept.split() for word in ("zebra", "quiz", "vixen", "jackdaw", "sphinx", "quartz"))


def test_rare_ids_and_unrepeated_ones_inform_more() -> None:
    information = self_information(np.asarray([5, 5, 5, 400, 30_000]))
    assert information[0] == information[1] < information[3] < information[4]
    assert self_information(np.asarray([7]))[0] > self_information(np.asarray([7, 7]))[0]


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("unit", ["token", "word", "phrase", "sentence"])
def test_any_text_is_compressed_within_its_budget(method: str, unit: str) -> None:
    prompts = [Prompt("Do.", (text, DOCUMENTS[0], text), "Why?") for text in NASTY]
    prompts += [Prompt(context=(text,)) for text in NASTY]
    for prompt, outcome in zip(prompts, compress(prompts, method=method, unit=unit, rate=0.4), strict=True):
        assert isinstance(outcome, CompressedPrompt)
        assert outcome.compressed_tokens <= outcome.target_tokens or outcome.status == "over_budget"
        assert outcome.text.count("\ufffd") == prompt.text.count("\ufffd")


@pytest.mark.parametrize("method", BASELINES)
def test_the_budget_is_used(method: str) -> None:
    outcome = one(Prompt("Do.", DOCUMENTS, "Why?"), method, rate=0.3)
    assert 0.95 * outcome.target_tokens <= outcome.compressed_tokens <= outcome.target_tokens
    assert outcome.instruction == "Do."
    assert outcome.question == "Why?"


@pytest.mark.parametrize("method", BASELINES)
def test_rates_of_single_strings_and_of_the_question_are_kept_to(method: str) -> None:
    prompt = Prompt("Do.", DOCUMENTS, DOCUMENTS[0], context_rates=(0.2, None, 1.0))
    outcome = one(prompt, method, rate=0.5, question_rate=0.5)
    sizes = dict(zip(outcome.kept_context, (tokenizer().count(text) for text in outcome.context), strict=True))
    assert outcome.context[outcome.kept_context.index(2)] == DOCUMENTS[2]
    assert sizes[0] / tokenizer().count(DOCUMENTS[0]) == pytest.approx(0.2, abs=0.1)
    assert tokenizer().count(outcome.question) / tokenizer().count(DOCUMENTS[0]) == pytest.approx(0.5, abs=0.1)


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=4), st.sampled_from(BASELINES))
def test_at_rate_one_nothing_changes(context: list[str], method: str) -> None:
    outcome = one(Prompt("a", context, "b"), method, rate=1.0)
    assert outcome.text == Prompt("a", context, "b").text
    assert outcome.context == tuple(context)
