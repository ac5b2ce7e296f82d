"""Scored once, cut at any budget: what is cut from a stored order is what compressing at that budget gives."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua import CompressedPrompt, CompressionConfig, ConfigError, LinguaError, Prompt, PromptError, Rejected, cut
from lingua.assemble import COLUMN, Order, named
from lingua.methods import METHODS
from lingua.text.units import rounded
from tests.lingua.echo import NASTY, compress, tokenizer
from tests.texts import PROSE

ONCE = ("evidence", "selective", "llmlingua2", "rarity", "lead", "truncate", "random")
BUDGETS = (1, 3, 8, 15, 30, 50, 80, 120, 200, 400)
TEXTS = st.lists(st.sampled_from([*NASTY, PROSE, *PROSE.splitlines(keepends=True)]), min_size=1, max_size=4)
CHOSEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "coherent": {"coherence": 0.7},
    "flat": {"coherence": 0.0},
    "by tokens": {"unit": "token"},
    "forced": {"force_tokens": [".", "coal"], "protect": [r"\d+"], "instruction_rate": 0.5},
}


def one(prompt: Prompt, method: str, **chosen: Any) -> CompressedPrompt:
    own: dict[str, Any] = {"focus_model": "none"} if method == "evidence" else {}
    (outcome,) = compress([prompt], method=method, **own, **chosen)
    assert isinstance(outcome, CompressedPrompt)
    return outcome


@pytest.mark.parametrize("method", ONCE)
@settings(max_examples=8, deadline=None)
@given(texts=TEXTS, chosen=st.sampled_from(sorted(CHOSEN)), instruction=st.sampled_from(["", "Say what was agreed."]))
def test_a_cut_is_what_compressing_at_that_budget_gives(
    method: str, texts: list[str], chosen: str, instruction: str
) -> None:
    prompt = Prompt(instruction, texts)
    order = one(prompt, method, keep_order=True, **CHOSEN[chosen]).order
    assert order is not None
    for budget in BUDGETS:
        wanted = one(prompt, method, target_token=budget, **CHOSEN[chosen])
        found = Order.read(order).cut(prompt, budget, tokenizer())
        assert (found.text, found.status, found.kept_spans) == (wanted.text, wanted.status, wanted.kept_spans)


def test_with_an_order_the_result_is_the_same_as_without() -> None:
    for budget in BUDGETS:
        wanted = one(Prompt(context=[PROSE]), "rarity", target_token=budget)
        found = one(Prompt(context=[PROSE]), "rarity", target_token=budget, keep_order=True)
        assert (found.text, found.status, found.fidelity) == (wanted.text, wanted.status, wanted.fidelity)


def test_a_row_is_cut_by_the_columns_that_its_order_names() -> None:
    order = one(Prompt(context=[PROSE]), "rarity", keep_order=True).order or ""
    wanted = one(Prompt(context=[PROSE]), "rarity", target_token=30).text
    row = {"body": PROSE, "text": "something else", f"x_{COLUMN}": named(order, {"text": "body"})}
    assert cut(row, 30, tokenizer()) == wanted
    assert cut({"text": PROSE, COLUMN: order}, 30, tokenizer()) == wanted
    assert cut({"context": [PROSE], COLUMN: order}, 30, tokenizer()) == wanted


def test_an_order_of_several_strings_is_of_the_whole_prompt() -> None:
    prompt = Prompt("Say what was agreed.", [PROSE, "", "The barges could not wait."])
    order = one(prompt, "rarity", keep_order=True).order
    row = {"instruction": prompt.instruction, "context": [PROSE, None, "The barges could not wait."], COLUMN: order}
    assert cut(row, 60, tokenizer()) == one(prompt, "rarity", target_token=60).text


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": PROSE}, "no_order"),
        ({"text": PROSE, COLUMN: "{}"}, "no_order"),
        ({"text": PROSE, COLUMN: None}, "no_order"),
        ({"text": PROSE + "more"}, "other_text"),
        ({"body": PROSE}, "other_text"),
    ],
)
def test_a_row_that_cannot_be_cut_says_why(row: dict[str, Any], reason: str) -> None:
    order = one(Prompt(context=[PROSE]), "rarity", keep_order=True).order
    with pytest.raises(PromptError) as error:
        cut({COLUMN: order, **row} if reason == "other_text" else row, 30, tokenizer())
    assert error.value.reason == reason


@pytest.mark.parametrize("value", [None, [], 7, "x", -1, [[0, 4]], {"a": []}, [1e9], "[" * 100_000])
@pytest.mark.parametrize("field", ["settings", "columns", "counts", "units", "model", ""])
def test_whatever_stands_in_an_order_ends_in_a_sentence(field: str, value: Any) -> None:
    order = json.loads(one(Prompt(context=[PROSE]), "rarity", keep_order=True).order or "")
    text = json.dumps({**order, field: value}) if field else str(value)
    with suppress(LinguaError):
        cut({"text": PROSE, COLUMN: text}, 30, tokenizer())


def test_no_text_has_fewer_than_no_tokens() -> None:
    order = one(Prompt(context=[PROSE]), "rarity", keep_order=True).order
    with pytest.raises(ValueError, match="target_tokens = 0"):
        cut({"text": PROSE, COLUMN: order}, 0, tokenizer())


def test_an_order_takes_fewer_bytes_than_its_text() -> None:
    order = one(Prompt(context=[PROSE * 8]), "rarity", keep_order=True).order or ""
    assert len(order) < len((PROSE * 8).encode())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_that_score_what_is_left_have_no_order(method: str) -> None:
    if method in ONCE:
        assert CompressionConfig(method=method, keep_order=True).keep_order
        return
    with pytest.raises(ConfigError, match=f"method {method} scores what is left of the text before"):
        CompressionConfig(method=method, keep_order=True)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"min_fidelity": 0.5}, "min_fidelity overrides the budget"),
        ({"demonstrations": "whole"}, "drops whole strings"),
        ({"method": "llmlingua2", "context_budget": "*2"}, "drops whole strings first"),
        ({"method": "selective", "unit": "phrase"}, "unit phrase is cut finer"),
    ],
)
def test_what_depends_on_the_budget_has_no_order(chosen: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        CompressionConfig(keep_order=True, **chosen)


@pytest.mark.parametrize("prompt", [Prompt(context=["a b"], question="c?"), Prompt(context=["a"], context_rates=[0.5])])
def test_prompts_with_a_question_and_structured_values_are_rejected(prompt: Prompt) -> None:
    (outcome,) = compress([prompt], method="rarity", keep_order=True)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "no_order"


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1))
def test_rounded_scores_are_near_and_stay_as_they_are(scores: list[float]) -> None:
    exact = np.asarray(scores, np.float32)
    near = rounded(exact)
    assert np.all(np.abs(near - exact) <= exact / 256 + 1e-38)
    assert np.array_equal(rounded(near), near)
