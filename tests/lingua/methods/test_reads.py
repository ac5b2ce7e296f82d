"""What the methods say they read is what they read; what is not read is refused and not in the digest."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import PRESETS, CompressionConfig, Method
from lingua.engine.engine import Engine
from lingua.errors import ConfigError, UnreadError
from lingua.methods import DEFAULTS, METHODS, READERS, complaints, decisive, readable
from lingua.methods.ranking import load_ranker
from lingua.prompt import Prompt
from tests.lingua.echo import EchoScorer, tokenizer

OTHERS: dict[str, list[Any]] = {
    "aggregate": ["mean"],
    "coherence": [0.4, 0],
    "compile": [True],
    "condition_compare": [False],
    "condition_in_question": ["before"],
    "context_budget": ["*1.2"],
    "demonstrations": ["whole", "cut"],
    "dynamic_context_compression_ratio": [0.1],
    "focus_model": ["none"],
    "force_context_ids": [(1,)],
    "iterative_size": [7],
    "keep_first_sentence": [1],
    "keep_last_sentence": [1],
    "keep_sentence_number": [1],
    "keep_threshold": [0.5],
    "question_aware": [False],
    "rank_method": ["llmlingua", "bm25"],
    "rank_model": ["none"],
    "reorder_context": ["original"],
    "sentence_budget": ["+9"],
    "token_to_word": ["max"],
    "use_context_level_filter": [True],
    "use_sentence_level_filter": [True],
    "window_tokens": [9],
}
"""For each setting that not all methods read, values that are not its default."""
ON_LOADING = {"compile", "rank_model", "focus_model"}
"""Read where models are found and loaded."""
SHARED = {"use_sentence_level_filter", "keep_threshold"}
"""Read by what all methods share, and never set where a method does not read them."""
PROMPT = Prompt(
    "Answer from the letters. Be brief.",
    (
        "Anna moved to the coast in spring. She paints boats there. Nobody knows why she left.",
        "Her brother drives a van. He delivers bread to three villages. On Sundays he sleeps.",
        "Question: who paints?\nAnswer: Anna does.",
    ),
    "Question: who drives a van to the villages?\nAnswer:",
)


class Recording(CompressionConfig):
    """Notes which settings are looked at, once `read` is a set."""

    def __getattribute__(self, name: str) -> Any:
        seen = object.__getattribute__(self, "__dict__").get("seen")
        if seen is not None and name in CompressionConfig.model_fields:
            seen.add(name)
        return super().__getattribute__(name)


def settings_of(method: str) -> list[dict[str, Any]]:
    """The method by itself, and with each of its settings changed, alone and in pairs with what they depend on."""
    own = [(name, value) for name in METHODS[method].reads for value in OTHERS[name]]
    chosen = [dict(pairs) for number in (0, 1, 2) for pairs in itertools.combinations(own, number)]
    valid = []
    for one in chosen:
        try:
            CompressionConfig(method=method, **one)
        except ConfigError:
            continue
        valid.append(one)
    return valid


def read_by(method: str, settings: dict[str, Any]) -> set[str]:
    config = Recording(method=method, **settings)
    ranker = None if method != "longllmlingua" or config.rank_method == "embedding" else load_ranker(config)
    config.__dict__["seen"] = seen = set[str]()
    if ranker is not None:
        load_ranker(config)
    drafter = Drafter(tokenizer(), tokenizer(), config, ranker=ranker)
    list(Engine(EchoScorer()).run([compress_one(PROMPT, drafter)]))
    return seen


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_what_it_says_and_no_more(method: str) -> None:
    chosen = settings_of(method)
    singles = [one for one in chosen if len(one) < 2 or any("filter" in name for name in one)]
    read = set().union(*(read_by(method, one) for one in singles))
    declared = set(METHODS[method].reads)
    assert (read & READERS.keys()) - SHARED <= declared
    assert declared - ON_LOADING <= read


def test_every_method_of_the_settings_says_what_it_reads() -> None:
    assert set(get_args(Method)) == set(METHODS)
    assert set(READERS) == set(OTHERS) <= set(CompressionConfig.model_fields)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", READERS)
def test_a_setting_that_the_method_does_not_read_is_refused_with_those_that_do(method: str, setting: str) -> None:
    if method in READERS[setting]:
        return
    for value in (*OTHERS[setting], DEFAULTS[setting]):
        if value is None:
            continue
        with pytest.raises(UnreadError, match=f"{setting} is read by method") as refused:
            CompressionConfig(method=method, **{setting: value})
        assert all(reader in str(refused.value) for reader in READERS[setting])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "llmlingua", "keep_first_sentence": 1}, "keep_first_sentence is read only with use_sentence_level"),
        ({"method": "llmlingua2", "context_budget": "*3"}, "context_budget is read only with use_context_level_filter"),
        ({"method": "longllmlingua", "rank_model": "x"}, "rank_model is read only with rank_method=embedding or"),
        ({"question_aware": False, "focus_model": "none"}, "focus_model is read only with question_aware"),
        ({"drop_consecutive": True}, "drop_consecutive is read only with force_tokens or keep_split"),
    ],
)
def test_a_setting_that_waits_for_another_is_refused_without_it(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadError, match=message):
        CompressionConfig(**settings)


def test_what_is_not_given_is_never_refused() -> None:
    for method in METHODS:
        assert CompressionConfig(method=method, rank_model=None, iterative_size=None).method == method


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_preset_gives_any_method_what_it_reads(preset: str, method: str) -> None:
    if preset == "security" and method != "llmlingua2":
        return
    config = CompressionConfig(preset=preset, method=method)
    assert not list(complaints(dict(config), [name for name in config.model_fields_set if getattr(config, name)]))
    assert config.instruction_rate == PRESETS[preset].get("instruction_rate", 1.0)


def test_a_preset_is_no_part_of_the_digest_but_what_it_sets_is() -> None:
    written_out = CompressionConfig(**PRESETS["paper"])
    assert CompressionConfig(preset="paper").digest() == written_out.digest()
    assert written_out.digest() != CompressionConfig(method="llmlingua").digest()


@pytest.mark.parametrize("method", METHODS)
def test_a_digest_knows_what_the_method_reads_and_nothing_else(method: str) -> None:
    plain = CompressionConfig(method=method)
    assert plain.digest() == CompressionConfig(method=method, rate=0.5).digest()
    for setting, values in OTHERS.items():
        changed = plain.model_copy(update={setting: values[0]})
        conditional = setting in METHODS[method].reads and METHODS[method].reads[setting] != ""
        if not conditional or setting in ("focus_model", "force_context_ids"):
            changes = setting in METHODS[method].reads and METHODS[method].reads[setting] in ("", "question_aware")
            changes |= (method, setting) == ("evidence", "force_context_ids")
            assert (changed.digest() != plain.digest()) == changes, setting


def test_a_setting_that_a_later_version_adds_or_an_earlier_one_had_is_not_lost() -> None:
    stored = {**CompressionConfig().model_dump(mode="json"), "of_another_version": 3}
    assert decisive(stored) == {"method": "evidence", "rate": 0.5, "of_another_version": 3}
    del stored["coherence"]
    assert decisive(stored) == {"method": "evidence", "rate": 0.5, "of_another_version": 3}


def test_what_would_not_be_read_can_be_left_out() -> None:
    settings = {"method": "llmlingua", "keep_first_sentence": 1, "coherence": 0.5, "iterative_size": 50}
    assert readable(settings) == {"method": "llmlingua", "iterative_size": 50}
