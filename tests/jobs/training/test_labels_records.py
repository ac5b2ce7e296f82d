"""Labelled words are stored and given as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RowError
from jobs.training.labels_records import Labelled, from_bytes, from_row, to_bytes, words_of
from tests.texts import NASTY


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_words_add_up_to_their_text(text: str) -> None:
    assert "".join(words_of(text)) == text


@given(st.lists(st.tuples(st.text(), st.floats(-100, 100)), max_size=5), st.text())
def test_stored_records_come_back_equal(pairs: list[tuple[str, float]], origin: str) -> None:
    record = Labelled(tuple(word for word, _ in pairs), tuple(score for _, score in pairs), origin, 0.25, 0.5)
    assert from_bytes(to_bytes([record, record])) == [record, record]


def test_a_stored_record_is_a_row_to_train_from() -> None:
    record = Labelled(("one", " two"), (1.0, 0.0), "a.jsonl, row 3")
    assert from_row(json.loads(record.to_line()), "elsewhere") == record


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
        from_row(row, "rows.jsonl, row 0")
    assert caught.value.reason == reason
