"""What the methods say they read is what they read; what is not read is refused and not in the digest."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import FORMER, PRESETS, READERS, CompressionConfig, default_of, fields, readable, without_defaults
from lingua.engine.engine import Engine
from lingua.errors import ConfigError, UnreadError
from lingua.methods import METHODS
from lingua.prompt import Prompt
from lingua.shared import MethodName, MethodSettings
from tests.lingua.echo import EchoScorer, tokenizer

OTHERS: dict[str, Any] = {
    "aggregate": "max",
    "coherence": 0.4,
    "condition_compare": False,
    "context_budget": "*1.2",
    "demonstrations": "whole",
    "dynamic_context_compression_ratio": 0.1,
    "focus_model": "none",
    "force_context_ids": (1,),
    "iterative_size": 7,
    "keep_threshold": 0.5,
    "rank_method": "bm25",
    "reorder_context": "original",
    "sentence_filter": {"budget": "+9", "first": 1},
}
"""For each setting that not all methods read, a value that is not its default."""
WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("llmlingua2", name): {"context_budget": "*1.2"} for name in ("force_context_ids", "rank_method")
}
"""What a setting is read with, of those that are read with another."""
PROMPT = Prompt(
    "Answer from the letters. Be brief.",
    (
        "Anna moved to the coast in spring. She paints boats there. Nobody knows why she left.",
        "Her brother drives a van. He delivers bread to three villages. On Sundays he sleeps.",
        "Question: who paints?\nAnswer: Anna does.",
    ),
    "Question: who drives a van to the villages?\nAnswer:",
)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_all_that_it_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, seen = CompressionConfig(method=method), set[str]()

    def noted(own: MethodSettings, name: str) -> Any:
        seen.add(name)
        return object.__getattribute__(own, name)

    monkeypatch.setattr(MethodSettings, "__getattribute__", noted, raising=False)
    list(Engine(EchoScorer()).run([compress_one(PROMPT, Drafter(tokenizer(), tokenizer(), config))]))
    conditional = {"force_context_ids", "rank_method", "iterative_size"}  # read where strings are chosen, or one by one
    assert seen | conditional >= METHODS[method].settings.model_fields.keys()


def test_every_method_has_settings_and_every_setting_a_value_here() -> None:
    assert set(get_args(MethodName)) == set(METHODS)
    assert set(READERS) == set(OTHERS) <= fields().keys()
    assert not FORMER.keys() & fields().keys()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", READERS)
def test_a_setting_that_the_method_does_not_read_is_refused_with_those_that_do(method: str, setting: str) -> None:
    if method in READERS[setting]:
        return
    for value in (OTHERS[setting], default_of(setting, READERS[setting][0])):
        if value is None:
            continue
        with pytest.raises(UnreadError, match=f"{setting} is read by method") as refused:
            CompressionConfig(method=method, **{setting: value})
        assert all(reader in str(refused.value) for reader in READERS[setting])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "llmlingua2", "force_context_ids": 3}, "force_context_ids is read only with context_budget"),
        ({"demonstrations": "cut", "force_context_ids": 3}, "force_context_ids is read only with demonstrations=auto"),
    ],
)
def test_a_setting_that_waits_for_another_is_refused_without_it(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadError, match=message):
        CompressionConfig(**settings)


def test_what_is_not_given_is_never_refused() -> None:
    for method in METHODS:
        assert CompressionConfig(method=method, keep_threshold=None, iterative_size=None).method == method


@pytest.mark.parametrize("setting", FORMER)
def test_a_setting_of_an_earlier_version_is_refused_with_what_to_give_instead(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is no setting any more: ."):
        CompressionConfig(**{setting: "x"})


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_preset_gives_any_method_what_it_reads(preset: str, method: str) -> None:
    if preset == "security" and method != "llmlingua2":
        return
    config = CompressionConfig(preset=preset, method=method)
    assert config.instruction_rate == PRESETS[preset].get("instruction_rate", 1.0)


def test_a_preset_is_no_part_of_the_digest_but_what_it_sets_is() -> None:
    written_out = CompressionConfig(**PRESETS["paper"])
    assert CompressionConfig(preset="paper").digest() == written_out.digest()
    assert written_out.digest() != CompressionConfig(method="llmlingua").digest()


@pytest.mark.parametrize("method", METHODS)
def test_a_digest_knows_what_the_method_reads_and_nothing_else(method: str) -> None:
    plain = CompressionConfig(method=method)
    assert plain.digest() == CompressionConfig(method=method, rate=0.5).digest()
    for setting in METHODS[method].settings.model_fields:
        beside = WITH.get((method, setting), {})
        changed = CompressionConfig(method=method, **{**beside, setting: OTHERS[setting]})
        assert changed.digest() != CompressionConfig(method=method, **beside).digest(), setting
    stored = {**plain.flat(), **{name: json.loads(json.dumps(value)) for name, value in OTHERS.items()}, **plain.flat()}
    assert without_defaults(stored) == {"method": method, "rate": 0.5}


def test_a_setting_that_a_later_version_adds_or_an_earlier_one_had_is_not_lost() -> None:
    stored = {**CompressionConfig().flat(), "of_another_version": 3}
    assert without_defaults(stored) == {"method": "evidence", "rate": 0.5, "of_another_version": 3}
    del stored["coherence"]
    assert without_defaults(stored) == {"method": "evidence", "rate": 0.5, "of_another_version": 3}


def test_what_would_not_be_read_can_be_left_out() -> None:
    settings = {"method": "llmlingua", "keep_threshold": 0.1, "coherence": 0.5, "iterative_size": 50}
    assert readable(settings) == {"method": "llmlingua", "iterative_size": 50}
