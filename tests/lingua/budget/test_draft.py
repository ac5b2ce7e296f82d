"""What comes out is cut from the original, whole characters only, and kept for certain where that was asked."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.prompt import CompressedPrompt, Prompt
from tests.fakes_engine import compressed
from tests.texts import NASTY, PROSE

UNITS = ["token", "word", "phrase", "sentence"]


def is_cut_from_its_original(result: CompressedPrompt, prompt: Prompt) -> None:
    assert len(result.kept_spans) == len(prompt.context)
    assert sorted(set(result.kept_context)) == sorted(result.kept_context)
    for index, text in zip(result.kept_context, result.context, strict=True):
        spans = result.kept_spans[index]
        assert "".join(prompt.context[index][start:end] for start, end in spans) == text
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
    dropped = set(range(len(prompt.context))) - set(result.kept_context)
    assert all(result.kept_spans[index] == () for index in dropped)
    assert result.text.count("\ufffd") <= prompt.text.count("\ufffd")
    assert result.text.encode().decode() == result.text
    parts = (result.instruction, *result.context, result.question)
    assert result.text == prompt.separator.join(part for part in parts if part)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("unit", UNITS)
def test_kept_spans_are_the_compressed_context(text: str, unit: str) -> None:
    for rate in (0.2, 0.5, 0.8):
        prompt = Prompt(text, [text, PROSE, text], text)
        result = compressed(prompt, rate=rate, unit=unit, instruction_rate=0.5, question_rate=0.5)
        is_cut_from_its_original(result, prompt)


@given(st.lists(st.text(max_size=40), max_size=5), st.text(max_size=30), st.sampled_from(UNITS), st.floats(0.05, 1))
@settings(max_examples=80, deadline=None)
def test_any_prompt_is_cut_from_its_original(context: list[str], ends: str, unit: str, rate: float) -> None:
    prompt = Prompt(ends, context, ends)
    is_cut_from_its_original(compressed(prompt, rate=rate, unit=unit, question_rate=0.5), prompt)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_rate_1_gives_everything_back(text: str) -> None:
    prompt = Prompt(text, [text, PROSE], text)
    result = compressed(prompt, rate=1.0)
    assert (result.status, result.text) == ("passthrough", prompt.text)
    assert result.context == tuple(prompt.context)


def test_a_prompt_within_its_target_passes_through() -> None:
    result = compressed("three short words", target_token=1_000)
    assert (result.status, result.rate) == ("passthrough", 1.0)
    assert result.text == "three short words"


def test_a_prompt_of_which_nothing_may_be_cut_is_kept_and_never_called_short_enough() -> None:
    whole = compressed(Prompt(context=[PROSE, PROSE], context_rates=[1.0, 1.0]), rate=0.3)
    assert (whole.status, whole.rate) == ("kept", 1.0)
    digits = compressed(Prompt(context=["1234 5678"], context_rates=[None]), rate=0.3, force_reserve_digit=True)
    assert (digits.status, digits.text) == ("kept", "1234 5678")


def test_an_empty_prompt_has_no_rate() -> None:
    result = compressed(Prompt(context=["", ""]), rate=0.5)
    assert (result.status, result.rate, result.origin_tokens) == ("kept", None, 0)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_forced_is_kept(unit: str) -> None:
    result = compressed(
        PROSE * 2,
        rate=0.6,
        unit=unit,
        force_tokens=["committee", "?", "\n"],
        force_reserve_digit=True,
        protect=[r"Dr\. \w+ \w+"],
    )
    text = PROSE * 2
    assert re.findall(r"\d", result.text) == re.findall(r"\d", text)
    for literal in ("committee", "\n", "Dr. Amal Haddad", "$41.50"):
        assert result.text.count(literal) >= text.count(literal)
    assert result.compressed_tokens <= result.target_tokens


def test_what_must_be_kept_and_exceeds_the_target_alone_is_kept_and_said() -> None:
    result = compressed(PROSE, target_token=3, protect=["signed the paper"])
    assert result.status == "over_budget"
    assert result.text == "signed the paper"
    assert result.compressed_tokens > result.target_tokens


def test_an_instruction_that_may_not_be_cut_can_exceed_the_target() -> None:
    result = compressed(Prompt("Do exactly as you are told in here.", [PROSE], "Why?"), target_token=5)
    assert result.status == "over_budget"
    assert result.instruction == "Do exactly as you are told in here."
    assert result.question == "Why?"


def test_each_string_keeps_its_own_rate() -> None:
    prompt = Prompt(context=[PROSE, PROSE, PROSE], context_rates=[1.0, 0.2, 0.6])
    result = compressed(prompt)
    shares = [sum(end - start for start, end in spans) / len(PROSE) for spans in result.kept_spans]
    assert shares[0] == 1
    assert shares[1] == pytest.approx(0.2, abs=0.08)
    assert shares[2] == pytest.approx(0.6, abs=0.08)


def test_a_string_of_rate_0_is_dropped() -> None:
    result = compressed(Prompt(context=[PROSE, PROSE], context_rates=[0.0, 0.9]))
    assert result.kept_spans[0] == ()
    assert result.kept_context == (1,)
