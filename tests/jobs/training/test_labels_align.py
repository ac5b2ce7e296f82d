"""A compression is found again in its original word by word, and the rates tell how well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.labels_align import align, best, matches, same_stem
from jobs.training.labels_records import Labelled
from lingua.words import terms
from tests.texts import NASTY, PROSE

WORDS = PROSE.split()


def kept(text: str, compressed: str) -> str:
    record = align(text, compressed)
    return "".join(word for word, score in zip(record.words, record.scores, strict=True) if score).strip()


@given(st.lists(st.booleans(), min_size=len(WORDS), max_size=len(WORDS)))
def test_where_words_were_only_left_out_the_labels_spell_the_compression(mask: list[bool]) -> None:
    compressed = " ".join(word for word, keep in zip(WORDS, mask, strict=True) if keep)
    assert terms(kept(" ".join(WORDS), compressed)) == terms(compressed)
    record = align(" ".join(WORDS), compressed)
    assert (record.variation, record.gap) == (0, 0)


@given(st.text(), st.text())
def test_whatever_the_texts_are_every_word_has_a_label_and_the_words_add_up(text: str, compressed: str) -> None:
    record = align(text, compressed)
    assert record.text == text
    assert len(record.words) == len(record.scores)
    assert 0 <= record.variation <= 1


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_text_that_was_not_compressed_keeps_all_its_words(text: str) -> None:
    record = align(text, text)
    assert all(score == bool(terms(word)) for word, score in zip(record.words, record.scores, strict=True))


def test_another_ending_and_other_capitals_are_the_same_word() -> None:
    assert kept("She Opened both windows, quickly.", "open window quickly") == "Opened windows, quickly."


def test_numbers_and_short_words_are_found_only_as_they_are() -> None:
    assert not same_stem("1998", "1999")
    assert not same_stem("chapter1", "chapter2")
    assert not same_stem("the", "then")
    assert same_stem("discussed", "discussing")


def test_a_word_that_stands_behind_the_last_one_is_found_too() -> None:
    assert kept("red green blue", "blue red") == "red blue"


def test_of_equal_words_the_next_one_is_meant_and_each_is_meant_once() -> None:
    assert list(matches(["a", "x", "a", "y", "a"], ["x", "a", "a"])) == [1, 2, 4]


def test_a_word_too_far_away_is_not_meant() -> None:
    far = ["one", *["filler"] * 10, "target"]
    assert list(matches(far, ["target"], window=5)) == []
    assert list(matches(far, ["target"], window=12)) == [11]


def test_a_worked_example_of_both_rates() -> None:
    """Of 4 words "purple" is not in the original: 1/4. 3 are, of which 2 are found near: (3 − 2) / 203."""
    record = align(" ".join(["alpha", "beta", *["filler"] * 200, "omega"]), "alpha beta purple omega")
    assert record.variation == pytest.approx(1 / 4)
    assert record.gap == pytest.approx(1 / 203)


def graded(*pairs: tuple[float, float]) -> list[Labelled]:
    return [Labelled((str(number),), (0.0,), "", *pair) for number, pair in enumerate(pairs)]


def test_the_filters_drop_the_worst_of_one_rate_and_of_what_is_left_the_worst_of_the_other() -> None:
    records = graded(*((0.9 if number == 3 else 0.1, 0.5 if number in (3, 7) else 0.0) for number in range(20)))
    assert [record.text for record in best(records, 0.05, 0.1)] == [str(n) for n in range(20) if n not in (3, 7)]


def test_the_filters_drop_nothing_where_all_are_equally_good() -> None:
    records = graded(*[(0.0, 0.0)] * 10)
    assert best(records, 0.05, 0.1) == records
    assert best([], 0.05, 0.1) == []
