"""Words and what matching compares."""

from __future__ import annotations

import pytest

from lingua.words import grams, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The well, 3.5 m — O'Neill", ["the", "well", "3", "5", "m", "o", "neill"]),
        ("東京の知事", ["東京", "京の", "の知", "知事"]),
        ("大 of 大阪 2026年 年x", ["大", "of", "大阪", "2026", "年", "年", "x"]),
        ("ก่อตั้ง", ["ก่อ", "อตั้", "ตั้ง"]),
        ("", []),
    ],
)
def test_grams_are_words_and_pairs_of_characters_where_no_spaces_are_written(text: str, expected: list[str]) -> None:
    assert grams(text) == expected


def test_terms_are_words_and_single_characters() -> None:
    assert terms("O'Neill 東京") == ["o", "neill", "東", "京"]
