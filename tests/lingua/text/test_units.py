"""Units are whole atoms, words keep the white space before them, and what must be kept is a unit of its own."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.text import sentences
from lingua.text.sentences import SEEN_AT_ONCE, sentence_edges
from lingua.text.units import beginning, forced_spans
from lingua.text.words import word_edges
from tests.fakes_engine import drafter
from tests.models import tokenizer
from tests.texts import NASTY, PROSE

NASTY_LINES = ["`a`. ", "| a. | B. | 3.5 |\n", "「a。」", "x", "(a.)[", "\n", '{"a":"B. C"},', "use `a` and `b` then "]
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
    for edges in (word_edges(text).tolist(), sentence_edges(text).tolist()):
        assert edges == sorted(edges)
        assert "".join(pieces(text, edges)) == text or not text
        assert all(0 <= edge <= len(text) for edge in edges)


BUG = "'\0\0[ .'。🇩]!U.S.\0``\u2028漢».\0。U.S.B\u2028.B\"'\r\0U.S.「`)漢"
"""Makes `sentencex` 1.0.32 panic, which is no Exception."""


def test_text_on_which_the_library_fails_is_cut_at_its_lines() -> None:
    edges = sentence_edges(f"One.\n{BUG}").tolist()
    assert edges[0] == 0
    assert 4 in edges


def test_where_the_library_fails_in_one_line_the_others_are_cut_all_the_same() -> None:
    text = f"It is old. It leaks.\n{BUG}"
    assert sentence_edges(text).tolist()[:3] == [0, 10, 20]


def shown(monkeypatch: pytest.MonkeyPatch, text: str) -> tuple[int, int]:
    """How many characters the library was shown for a text, and the most in a paragraph."""
    paragraphs = list[str]()
    segment = sentences.sentencex.segment
    monkeypatch.setattr(
        sentences.sentencex,
        "segment",
        lambda language, seen: paragraphs.extend(seen.split("\n\n")) or segment(language, seen),
    )
    sentence_edges(text)
    monkeypatch.undo()
    return sum(map(len, paragraphs)), max(map(len, paragraphs))


@pytest.mark.parametrize("unit", NASTY_LINES, ids=NASTY_LINES)
def test_the_library_sees_twice_as_much_of_twice_the_text_and_little_at_once(
    monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    once, twice = (shown(monkeypatch, unit * (size // len(unit))) for size in (60_000, 120_000))
    assert twice[0] <= 2.1 * once[0] <= 2.1 * 2 * 60_000
    assert max(once[1], twice[1]) <= SEEN_AT_ONCE


@given(
    st.lists(
        st.sampled_from(["One. ", "Two is (so. What) it. ", "“Three. Four,” he said. ", "\n", "x " * 700]), max_size=60
    )
)
def test_windows_of_a_long_paragraph_hold_the_sentences_of_the_whole(pieces: list[str]) -> None:
    text = re.sub("\n+", "\n", "".join(pieces))
    sizes = [len(sentence) for sentence in sentences.sentencex.segment("en", text)]
    whole = {0, *np.cumsum(sizes)[:-1].tolist()}
    found = [0, *np.cumsum([len(one) for one in sentences._sentences(text)])[:-1].tolist()]
    added = set(found) - whole
    assert not whole - set(found)
    assert all(max(edge - begin for begin in whole if begin <= edge) >= SEEN_AT_ONCE // 2 for edge in added)


def test_sentences_are_found_in_several_scripts() -> None:
    assert len(sentence_edges("Dr. Haddad came. He sat down. Then he left.")) == 3
    assert len(sentence_edges("今天天气很好。我们去公园。")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "Those of Streptococcus sp. (streptopain) are known.| They were found.",
        "It is approx. 5 km long, see Vol. 2 of Lee et al. [34] on it.| They were found.",
        "It was sold for $5 bn. in 1990.| Then it closed.",
        "It reached Number One.| “Voila” was covered.|\n1. All cells live.| So it is.",
        "i like it.| it is good.| yes.",
        "Monday to 18:00.| Sunday closed.",
        "Sie fiel am 3. Mai 1945.| Das kostete 2,4 Mio. Mark.",
        "Sie ruht seit dem 3. Oktober.| Bis spätestens 20. November kommt jemand, z. B. Ada.| Am 3. d. M. kam sie.",
        "Call the office.| Tel. +49 30 5550 1234.| It is open.",
        "It was lost, i.e. No. 4, incl. Fig. 2 of ch. 3.| They were found.",
        "[1] Lund, Oak.|\n[2] See Vale.",
    ],
)
def test_sentences_end_behind_no_abbreviation_and_begin_with_their_own_quotation_marks(text: str) -> None:
    whole = text.replace("|", "")
    edges = [*sentence_edges(whole).tolist(), len(whole)]
    assert "|".join(whole[start:end] for start, end in pairwise(edges)) == text


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
    monkeypatch.setattr("lingua.text.units._SECONDS", 0.05)
    with pytest.raises(PromptError) as caught:
        forced_spans("a" * 5_000 + "!", CompressionConfig(protect=[r"(a|aa)+$"]))
    assert caught.value.reason == "protect_timeout"


@pytest.mark.parametrize("spaces", [1, 8])
def test_a_long_run_is_cut_by_its_own_length_not_by_the_white_space_before_it(spaces: int) -> None:
    short, long = " " * spaces + "ab-" * 32 + "é", "ab-" * 40
    assert word_edges(f"a{short}").tolist() == [0, 1]
    assert len(word_edges(f"a {long}")) > 10


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("1. It is old. It leaks.\n2. It is dear.\n", ["1. It is old.", "It leaks.", "2. It is dear."]),
        ("II. The wheel\n\n* Oak\n* Iron. Steel.", ["II. The wheel", "* Oak", "* Iron.", "Steel."]),
        (
            "It opens at 8 p.m. EST. It shuts at 9 p.m. She left.",
            ["It opens at 8 p.m. EST.", "It shuts at 9 p.m.", "She left."],
        ),
        ("它很旧。2．它很贵。3．它漏水。", ["它很旧。", "2．它很贵。", "3．它漏水。"]),
        ("[10:02] Ada: so is\nash\nB: Oak\n(a) Iron", ["[10:02] Ada: so is\nash", "B:", "Oak", "(a) Iron"]),
        ("See:\n```sh\nls. Now\n- x\n```\nIt ran.", ["See:", "```sh\nls. Now\n- x\n```", "It ran."]),
    ],
)
def test_items_begin_sentences_and_code_is_one(text: str, sentences: list[str]) -> None:
    edges = [*sentence_edges(text).tolist(), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(edges)] == sentences


@pytest.mark.parametrize(
    ("clause", "most", "kept"),
    [
        ("Ask Jon Lund of the mill in Alta for a new one from Brek.", 11, "Ask Jon Lund of the mill in Alta"),
        ("since nobody else in Alta can mend one.", 4, ""),
        ("The wheels of the mill in Alta were sold to Brek.", 7, ""),
        ("The wheels were sold to the mill in Alta.", 6, "The wheels were sold"),
        ("It was said that the mill in Alta, with its weir, was sold to Brek.", 8, ""),
        ("Ada Lund bought that wheel in Alta from Brek and a friend.", 7, "Ada Lund bought that wheel in Alta"),
    ],
)
def test_a_beginning_ends_with_a_phrase_and_has_the_verb(clause: str, most: int, kept: str) -> None:
    text = f"{clause} Iron rusts."
    bounds = np.array([*word_edges(text), len(text)])
    units = np.flatnonzero(bounds < len(clause))
    assert text[: bounds[beginning(text, bounds, units, most)]] == kept
