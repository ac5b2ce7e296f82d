"""Units are whole atoms, words keep the white space before them, and what must be kept is a unit of its own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.units import forced_spans, sentence_edges
from lingua.words import word_edges
from tests.fakes_engine import drafter
from tests.models import tokenizer
from tests.texts import NASTY, PROSE

TEXTS = {**NASTY, "prose": PROSE}


def pieces(text: str, edges: list[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise([*edges, len(text)])]


def test_a_word_carries_the_white_space_before_it() -> None:
    text = "To be,  or\nnot"
    assert pieces(text, word_edges(text).tolist()) == ["To", " be,", "  or", "\nnot"]


def test_ideographs_are_words_of_their_own() -> None:
    assert pieces("讨论煤炭", word_edges("讨论煤炭").tolist()) == list("讨论煤炭")


def test_a_run_longer_than_a_word_is_cut() -> None:
    text = "a.b-c/" * 400
    assert len(word_edges(text)) > 100


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_edges_ascend_from_the_beginning(text: str) -> None:
    for edges in (word_edges(text).tolist(), sentence_edges(text, "en").tolist()):
        assert edges == sorted(edges)
        assert "".join(pieces(text, edges)) == text or not text
        assert all(0 <= edge <= len(text) for edge in edges)


def test_sentences_are_found_in_several_scripts() -> None:
    assert len(sentence_edges("Dr. Haddad came. He sat down. Then he left.", "en")) == 3
    assert len(sentence_edges("今天天气很好。我们去公园。", "zh")) == 2


@given(
    st.text(st.sampled_from("ab1 .\n🇩漢é\u0301"), max_size=60), st.sampled_from(["token", "word", "phrase", "sentence"])
)
def test_units_tile_tokens_and_text_and_cost_what_the_text_costs(text: str, unit: str) -> None:
    part = drafter(unit=unit, force_tokens=["b"], force_reserve_digit=True).part(tokenizer().encode([text])[0], unit)  # type: ignore[arg-type]
    assert part.bounds[-1] == len(text)
    assert part.starts[-1] == len(part.ids)
    assert (part.bounds[1:] > part.bounds[:-1]).all()
    assert part.costs.sum() == len(part.ids)
    forced = {place for place, char in enumerate(text) if char in "b1"}
    covered = {
        place
        for start, end, must in zip(part.bounds, part.bounds[1:], part.must, strict=False)
        if must
        for place in range(start, end)
    }
    assert forced <= covered


def test_what_takes_too_long_to_match_rejects_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingua.units._PATTERN_SECONDS", 0.05)
    with pytest.raises(PromptError) as caught:
        forced_spans("a" * 5_000 + "!", CompressionConfig(protect=[r"(a|aa)+$"]))
    assert caught.value.reason == "protect_timeout"


@pytest.mark.parametrize("spaces", [1, 8])
def test_a_long_run_is_cut_by_its_own_length_not_by_the_white_space_before_it(spaces: int) -> None:
    short, long = " " * spaces + "ab-" * 32 + "é", "ab-" * 40
    assert word_edges(f"a{short}").tolist() == [0, 1]
    assert len(word_edges(f"a {long}")) > 10
