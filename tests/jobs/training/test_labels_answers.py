"""Labels from answers: the words that answered a question, where they stand."""

from __future__ import annotations

import pytest

from cluster.errors import RowError
from jobs.training.labels_answers import label_answers

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
