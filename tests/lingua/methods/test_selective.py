"""Selective-Context over a scorer that echoes: one pass, four kinds of units, and the laws of every method."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.engine.engine import Engine
from lingua.methods.selective import inform
from lingua.prompt import CompressedPrompt, Prompt
from lingua.text.units import PHRASE_WORDS, phrase_edges
from lingua.text.words import word_edges
from tests.lingua.echo import NASTY, EchoScorer, compress, draft_of

UNITS = ("token", "word", "phrase", "sentence")
TEXT = "The capital of France is Paris, a city on the river Seine.\nIt isn't far (by train) from the sea!"


def phrases(text: str) -> list[str]:
    return [text[a:b] for a, b in pairwise([*phrase_edges(text).tolist(), len(text)])]


def test_phrases_end_at_punctuation_and_line_breaks_and_begin_at_short_words() -> None:
    assert phrases(TEXT) == [
        "The capital", " of France", " is Paris,", " a city", " on the river Seine.", "\nIt isn't",
        " far (by train)", " from", " the sea!",
    ]  # fmt: skip


def test_phrases_of_a_script_without_spaces_end_at_its_punctuation() -> None:
    assert phrases("漢字です。これはテストです、はい") == ["漢字です。", "これはテストです、", "はい"]


@given(st.text(st.sampled_from("ab ,.\n(’é漢"), max_size=80))
def test_phrases_are_runs_of_words_and_tile_the_text(text: str) -> None:
    edges, words = phrase_edges(text).tolist(), word_edges(text).tolist()
    assert set(edges) <= set(words)
    assert edges[:1] == words[:1]
    assert all(words.index(b) - words.index(a) <= PHRASE_WORDS for a, b in pairwise(edges))


def test_every_token_is_scored_once_after_the_uncut_text_before_it() -> None:
    prompt = Prompt("Read this.", ("the river the river", "the train"), "river?")
    draft, scorer = draft_of(prompt, rate=0.5), EchoScorer()
    engine: Engine[Any] = Engine(scorer)
    list(engine.run([inform(draft)]))
    separator = draft.ids("\n\n")
    seen = {0, *draft.instruction.ids.tolist(), *separator}
    for part in draft.context:
        for token, surprisal in zip(part.ids.tolist(), part.token_scores, strict=True):
            assert surprisal == pytest.approx(1.0 if token in seen else 5.0 + token % 97 / 100)
            seen.add(token)
    before = [draft.instruction, *draft.context]
    assert scorer.rows == 1
    assert scorer.tokens == sum(len(part.ids) for part in before) + 2 * len(separator)


def test_a_prompt_beyond_the_window_is_scored_to_its_end() -> None:
    prompt = Prompt(context=[" ".join(f"word{n}" for n in range(400))])
    (outcome,) = compress([prompt], EchoScorer(window=64), method="selective", rate=0.5)
    assert isinstance(outcome, CompressedPrompt)
    assert 0.95 * outcome.target_tokens <= outcome.compressed_tokens <= outcome.target_tokens


def test_repeated_text_goes_first() -> None:
    said, news = "the price of coal and of steel", "vexed zebras jump"
    (outcome,) = compress([Prompt(context=(said, said, news))], method="selective", rate=0.6)
    assert isinstance(outcome, CompressedPrompt)
    assert outcome.context[-1] == news


@pytest.mark.parametrize("unit", UNITS)
def test_any_text_is_compressed_within_its_budget(unit: str) -> None:
    prompts = [Prompt("Do.", (text, TEXT, text), "Why?") for text in NASTY]
    prompts += [Prompt(context=(text,)) for text in NASTY]
    for prompt, outcome in zip(prompts, compress(prompts, method="selective", unit=unit, rate=0.4), strict=True):
        assert isinstance(outcome, CompressedPrompt)
        assert outcome.compressed_tokens <= outcome.target_tokens or outcome.status == "over_budget"
        assert outcome.text.count("\ufffd") == prompt.text.count("\ufffd")


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=4), st.sampled_from(UNITS))
def test_at_rate_one_nothing_changes(context: list[str], unit: str) -> None:
    (outcome,) = compress([Prompt("a", context, "b")], method="selective", unit=unit, rate=1.0)
    assert isinstance(outcome, CompressedPrompt)
    assert outcome.text == Prompt("a", context, "b").text
    assert outcome.context == tuple(context)


def test_whole_phrases_stand_or_fall_together() -> None:
    (outcome,) = compress([Prompt(context=(TEXT * 4,))], method="selective", unit="phrase", rate=0.5)
    assert isinstance(outcome, CompressedPrompt)
    edges = {*phrase_edges(TEXT * 4).tolist(), len(TEXT * 4)}
    assert {start for start, _ in outcome.kept_spans[0] if start} <= edges | {edge + 1 for edge in edges}
