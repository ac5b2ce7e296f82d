"""Prompts are checked on the way in and never change."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lingua.errors import PromptError
from lingua.prompt import Prompt


def test_empty_parts_bring_no_separator() -> None:
    assert Prompt("", ["a", "", "b"], "").text == "a\n\nb"
    assert Prompt("i", [], "q", separator="|").text == "i|q"


def test_one_string_is_one_document() -> None:
    assert Prompt(context="abc").context == ("abc",)


def test_the_callers_list_is_not_shared() -> None:
    context = ["a"]
    prompt = Prompt(context=context)
    context.append("b")
    assert prompt.context == ("a",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instruction": None}, "wrong_type"),
        ({"context": 3}, "wrong_type"),
        ({"context": ["a", None]}, "wrong_type"),
        ({"question": b"bytes"}, "wrong_type"),
        ({"context": b"bytes"}, "wrong_type"),
        ({"separator": None}, "wrong_type"),
        ({"keep_some": "no"}, "wrong_type"),
        ({"context": ["a"], "context_rates": 0.5}, "wrong_type"),
        ({"context": ["a"], "context_rates": None}, "wrong_type"),
        ({"context": ["a"], "context_rates": ["x"]}, "wrong_rate"),
        ({"context": ["a"], "context_rates": [float("nan")]}, "wrong_rate"),
        ({"context": ["\ud800"]}, "invalid_unicode"),
        ({"context": ["a"], "context_rates": [0.5, 0.5]}, "wrong_rate"),
        ({"context": ["a"], "context_rates": [1.5]}, "wrong_rate"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(PromptError) as caught:
        Prompt(**fields)
    assert caught.value.reason == reason
    assert next(reversed(fields)) in caught.value.detail


def test_rates_may_be_numbers_of_numpy() -> None:
    assert Prompt(context=["a", "b"], context_rates=np.array([0.5, 1], np.float32)).context_rates == (0.5, 1.0)


def test_strings_of_other_classes_become_plain_ones() -> None:
    class Secret(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "***"

    prompt = Prompt(Secret("i"), [Secret("a")], Secret("q"))
    assert prompt != Prompt(Secret("i"), [Secret("b")], Secret("q"))
    assert repr(prompt) == repr(Prompt("i", ["a"], "q"))


def test_a_prompt_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Prompt().instruction = "x"  # type: ignore[misc]
