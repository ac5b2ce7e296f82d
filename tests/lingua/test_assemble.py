"""Prompts from texts that were compressed before: as many as fit, never a token more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua import CompressedPrompt, Prompt
from lingua.assemble import COLUMN, Frame, assemble, assemble_rows
from lingua.errors import ConfigError, PromptError
from tests.lingua.echo import compress, tokenizer
from tests.texts import PROSE


@dataclass
class Words:
    """Counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


class Pairs:
    """Counts pairs of characters: two texts together may be fewer than the sum of both."""

    def count(self, text: str) -> int:
        return (len(text) + 1) // 2


@given(st.lists(st.text("ab ", max_size=20), max_size=12), st.integers(0, 60))
def test_the_budget_is_never_exceeded_and_documents_keep_their_order(documents: list[str], budget: int) -> None:
    found = assemble(documents, budget, tokenizer=Pairs())
    assert found.tokens == Pairs().count(found.text) <= budget
    assert list(found.used) == sorted(set(found.used))
    assert found.text == "\n\n".join(documents[index] for index in found.used if documents[index])


@given(st.lists(st.text("ab", min_size=1, max_size=9), max_size=12), st.integers(0, 60))
def test_what_was_passed_over_would_not_have_fitted(documents: Sequence[str], budget: int) -> None:
    found = assemble(documents, budget, tokenizer=Pairs())
    for index in set(range(len(documents))) - set(found.used):
        before = [documents[position] for position in found.used if position < index]
        assert Pairs().count("\n\n".join([*before, documents[index]])) > budget


def test_instruction_and_question_stand_around_the_documents() -> None:
    frame = Frame("Answer briefly.", "Why?", separator=" | ")
    found = assemble(["one two", "three four five", "six"], 8, frame, Words())
    assert found.text == "Answer briefly. | one two | Why?"
    assert (found.used, found.tokens) == ((0,), 7)


def test_a_small_document_behind_a_large_one_is_used() -> None:
    assert assemble(["a b c", "d e f g h", "i"], 4, tokenizer=Words()).used == (0, 2)


def test_a_question_that_alone_exceeds_the_budget_is_an_error() -> None:
    with pytest.raises(PromptError, match="are 3 tokens, the budget is 2") as error:
        assemble(["x"], 2, Frame(question="one two three"), Words())
    assert error.value.reason == "over_budget"


def test_tokens_are_those_of_the_named_tokenizer() -> None:
    pytest.importorskip("tiktoken_ext")
    found = assemble(["the quick brown fox", "jumps over the lazy dog"], 5, Frame(separator=" "))
    assert (found.text, found.tokens) == ("the quick brown fox", 4)


def test_a_tokenizer_without_a_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="names no tokenizer"):
        assemble(["x"], 2, tokenizer="model")


# rows that are cut to one budget

DOCUMENTS = [PROSE, "The barges could not wait, so they left.", " ".join(f"word{n}" for n in range(60))]


def rows(method: str = "lead", **chosen: Any) -> list[dict[str, Any]]:
    outcomes = compress([Prompt(context=[text]) for text in DOCUMENTS], method=method, keep_order=True, **chosen)
    assert all(isinstance(one, CompressedPrompt) for one in outcomes)
    return [{"text": text, COLUMN: one.order} for text, one in zip(DOCUMENTS, outcomes, strict=True)]  # type: ignore[union-attr]


@pytest.mark.parametrize("budget", [40, 90, 150, 300])
def test_rows_together_are_what_a_job_makes_of_one_prompt(budget: int) -> None:
    (wanted,) = compress([Prompt(context=DOCUMENTS)], method="lead", target_token=budget)
    found = assemble_rows(rows(), budget, tokenizer=tokenizer())
    assert isinstance(wanted, CompressedPrompt)
    assert (found.text, found.tokens, found.used) == (wanted.text, wanted.compressed_tokens, wanted.kept_context)


@given(st.lists(st.floats(0, 10), min_size=3, max_size=3), st.integers(20, 300))
def test_the_budget_of_weighted_rows_is_never_exceeded(weights: list[float], budget: int) -> None:
    found = assemble_rows(rows("rarity"), budget, Frame("Answer.", "Who left?"), weights, tokenizer())
    assert found.tokens == tokenizer().count(found.text) <= budget
    assert found.text.startswith("Answer.")
    assert found.text.endswith("Who left?")


def test_a_row_of_more_weight_keeps_more() -> None:
    shares = []
    for weight in (0.0, 1.0, 4.0):
        found = assemble_rows(rows(), 120, weights=[1.0, 1.0, weight], tokenizer=tokenizer())
        shares.append(found.text.count("word"))
    assert shares == sorted(shares)
    assert shares[0] == 0 < shares[1] < shares[2]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [1.0, math.inf, 1.0]])
def test_every_row_needs_a_weight(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="for each of the 3"):
        assemble_rows(rows(), 100, weights=weights, tokenizer=tokenizer())


def test_rows_of_different_settings_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="under different settings"):
        assemble_rows([*rows("lead"), *rows("rarity")], 100, tokenizer=tokenizer())


def test_what_must_be_kept_of_rows_may_exceed_the_budget() -> None:
    with pytest.raises(PromptError, match="tokens must be kept, the budget is 20"):
        assemble_rows(rows(protect=[r"word\d+"]), 20, tokenizer=tokenizer())
