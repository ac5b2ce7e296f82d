"""Settings are refused by name before anything loads."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

from lingua.config import CompressionConfig
from lingua.errors import ConfigError, UnreadError
from lingua.shared import ContextBudget


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rate", 0),
        ("rate", 1.1),
        ("rate", float("nan")),
        ("target_token", 0),
        ("unit", "syllable"),
        ("context_budget", "__import__('os')"),
        ("context_budget", "*0.5"),
        ("context_budget", "-100"),
        ("force_tokens", [""]),
        ("protect", ["("]),
        ("iterative_size", 0),
        ("no_such_setting", 1),
        ("method", "zip"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        CompressionConfig(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("rate", 35, "rate = 35: must be at most 1; did you mean 0.35?"),
        ("rate", "35", "rate = '35': must be at most 1; did you mean 0.35?"),
        ("rate", "35%", "must be a number; did you mean 0.35?"),
        ("rate", "0,5", "must be a number; did you mean 0.5?"),
        ("rate", 1000, "rate = 1000: must be at most 1"),
        ("rate", 0, "rate = 0: must be above 0"),
        ("rate", "half", "rate = 'half': must be a number"),
        ("target_token", 0.5, "target_token = 0.5: must be a whole number"),
        ("force_reserve_digit", "perhaps", "must be true or false"),
        ("method", "llmlingua3", "did you mean llmlingua or llmlingua2"),
        ("rat", 0.5, "unknown setting 'rat'; did you mean rate?"),
        ("xyz", 1, "unknown setting 'xyz'"),
        ("method", ["evidence"], "method = ['evidence']: must be evidence, llmlingua"),
        ("message_rates", 0.5, "message_rates = 0.5: must be an object"),
        ("force_tokens", 0.5, "force_tokens = 0.5: must be a list"),
    ],
)
def test_what_is_allowed_and_what_was_likely_meant_is_said(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        CompressionConfig(**{setting: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "longlingua", "rank_method": "bm25"}, "; did you mean longllmlingua or llmlingua or llmlingua2?"),
        ({"target_token": 0.5}, "target_token = 0.5: must be a whole number"),
        ({"force_reserve_digit": 1.5}, "force_reserve_digit = 1.5: must be true or false"),
        ({"target_token": "50%"}, "target_token = '50%': must be a whole number"),
        ({"rate": "nan"}, "rate = 'nan': must be a finite number"),
    ],
)
def test_nothing_is_advised_that_is_there_or_would_be_wrong_again(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        CompressionConfig(**settings)
    assert str(refusal.value).endswith(message)


def test_rate_and_target_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude"):
        CompressionConfig(rate=0.5, target_token=100)


def test_half_is_the_default() -> None:
    assert CompressionConfig().target(101) == 50


@pytest.mark.parametrize(
    ("rate", "origin", "target"), [(0.3, 10, 3), (0.1, 30, 3), (0.7, 10, 7), (0.1, 1, 1), (0.5, 0, 0)]
)
def test_a_target_is_rounded_down_to_at_least_one(rate: float, origin: int, target: int) -> None:
    assert CompressionConfig(rate=rate).target(origin) == target


@pytest.mark.parametrize(("text", "result"), [("*2", 20), ("+100", 110), (" * 1.5 ", 15), ("+0", 10)])
def test_a_budget_is_a_factor_or_an_addition(text: str, result: float) -> None:
    assert ContextBudget.parse(text).apply(10) == result


def test_equal_settings_have_equal_digests() -> None:
    assert CompressionConfig().digest() == CompressionConfig(rate=0.5).digest()
    assert CompressionConfig().digest() != CompressionConfig(rate=0.4).digest()


def test_one_string_stands_for_a_list_of_one() -> None:
    assert CompressionConfig(force_tokens="\n").force_tokens == ("\n",)
    assert CompressionConfig(force_context_ids=3).given()["force_context_ids"] == (3,)


def test_an_empty_name_is_told_plainly() -> None:
    with pytest.raises(ConfigError, match=r"target_tokenizer = '': must hold at least 1 character$"):
        CompressionConfig(target_tokenizer="")


def test_what_is_said_of_unread_settings_survives_pickling() -> None:
    with pytest.raises(UnreadError) as caught:
        CompressionConfig(method="lead", coherence=0.5, iterative_size=100)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.complaints) == (str(caught.value), caught.value.complaints)
    assert str(again).startswith("iterative_size is read by method")
