"""Labels from rows, from compressions and from answers: every word has its score."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RowError
from jobs.training.labels import (
    Labelled,
    best,
    label_answers,
    label_compression,
    labels_of_row,
    matches,
    same_stem,
    words_of,
)
from lingua.text.words import terms
from tests.texts import NASTY, PROSE


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_words_add_up_to_their_text(text: str) -> None:
    assert "".join(words_of(text)) == text


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.floats(-100, 100)), max_size=5))
def test_a_line_of_labels_is_a_row_to_train_from(pairs: list[tuple[str, float]]) -> None:
    words, scores = (tuple(one[place] for one in pairs) for place in (0, 1))
    record = Labelled(words, scores, "a.jsonl, row 3", 0.25, 0.5)
    assert labels_of_row(json.loads(record.to_line()), "elsewhere") == record


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no_words"),
        ({"words": "one two", "labels": [1, 0]}, "no_words"),
        ({"words": ["one"]}, "no_labels"),
        ({"words": ["one"], "labels": ["yes"]}, "no_labels"),
        ({"words": ["one"], "labels": [float("nan")]}, "no_labels"),
        ({"words": ["one", " two"], "labels": [1]}, "wrong_labels"),
    ],
)
def test_a_row_whose_words_and_labels_do_not_belong_together_is_told(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        labels_of_row(row, "rows.jsonl, row 0")
    assert caught.value.reason == reason


# ---- compressions

WORDS = PROSE.split()


def kept(text: str, compressed: str) -> str:
    record = label_compression(text, compressed)
    return "".join(word for word, score in zip(record.words, record.scores, strict=True) if score).strip()


@given(st.lists(st.booleans(), min_size=len(WORDS), max_size=len(WORDS)))
def test_where_words_were_only_left_out_the_labels_spell_the_compression(mask: list[bool]) -> None:
    compressed = " ".join(word for word, keep in zip(WORDS, mask, strict=True) if keep)
    assert terms(kept(" ".join(WORDS), compressed)) == terms(compressed)
    record = label_compression(" ".join(WORDS), compressed)
    assert (record.variation, record.gap) == (0, 0)


@given(st.text(), st.text())
def test_whatever_the_texts_are_every_word_has_a_label_and_the_words_add_up(text: str, compressed: str) -> None:
    record = label_compression(text, compressed)
    assert record.text == text
    assert len(record.words) == len(record.scores)
    assert 0 <= record.variation <= 1


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_text_that_was_not_compressed_keeps_all_its_words(text: str) -> None:
    record = label_compression(text, text)
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
    record = label_compression(" ".join(["alpha", "beta", *["filler"] * 200, "omega"]), "alpha beta purple omega")
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


# ---- answers

TEXT = "Art was made in 1871 by Ada Party. A party of 1871 people (Ada) came."


def marked(answers: object) -> list[str]:
    found = label_answers(TEXT, answers, "file, row 0")
    assert found.text == TEXT
    return [word.strip() for word, score in zip(found.words, found.scores, strict=True) if score == 1]


def test_the_first_occurrence_as_whole_words_is_marked_whatever_its_case() -> None:
    assert marked(["art", "ada party", "1871"]) == ["Art", "1871", "Ada", "Party."]


def test_where_a_row_tells_the_place_it_is_that_one() -> None:
    assert marked([{"text": "Ada", "answer_start": TEXT.index("(Ada") + 1}]) == ["(Ada)"]


def test_what_is_not_there_is_empty_or_long_marks_nothing() -> None:
    assert marked(["Bob", "", " ", TEXT]) == []


@pytest.mark.parametrize("answers", [None, "Ada", [3], [{"text": 3}], [{"text": "Ada", "answer_start": "0"}]])
def test_what_is_no_list_of_answers_is_refused(answers: object) -> None:
    with pytest.raises(RowError, match="answer"):
        label_answers(TEXT, answers, "file, row 0")
