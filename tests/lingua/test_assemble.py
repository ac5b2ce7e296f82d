"""Prompts from texts that were compressed before: as many as fit, never a token more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.assemble import Frame, assemble
from lingua.errors import ConfigError, PromptError


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
