"""Subsequence recovery: worked examples, laws, and a plain search as the oracle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.methods.recovery import _Original, recover
from lingua.text.words import word_spans
from tests.lingua.echo import NASTY

LETTERS = st.lists(st.sampled_from("abcd"), max_size=14)


def test_a_few_words_for_ever_are_left_as_they_are_before_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, meetings = list[int](), _Original._meetings

    def counted(self: _Original, words: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        for place, steps in meetings(self, words):
            looks.append(len(steps))
            yield place, steps

    monkeypatch.setattr(_Original, "_meetings", counted)
    monkeypatch.setattr("lingua.methods.recovery.MOST_STEPS", 100_000)
    for size in (20, 200, 2_000):
        looks.clear()
        recover("a b " * size * 3, "a a b " * size, "b a a " * size)
        assert sum(looks) <= 100_000
    assert recover("a b " * 6_000, "a a b " * 2_000, "b a a " * 2_000) == "b a a " * 2_000


def test_a_cut_name_is_completed() -> None:
    original = "The prize went to Wilhelm Conrad Röntgen, of Germany, in 1901."
    compressed = "prize Wilhelm Röntgen, Germany 1901"
    assert recover(original, compressed, "It was Wilhelm Röntgen.") == "It was Wilhelm Conrad Röntgen."


def test_the_shortest_passage_is_taken() -> None:
    original = "New cars of York. The New old York. The New big old York."
    assert recover(original, "New York", "In New York!") == "In New old York!"


def test_a_span_that_is_whole_in_the_original_stays_as_it_was_written() -> None:
    assert recover("New\nYork was New old York", "New York", "in New  York") == "in New  York"


def test_the_longest_span_is_matched_at_once() -> None:
    original = "one two x three four five"
    assert recover(original, "one two three four", "one two three four") == "one two x three four"


def test_a_span_does_not_cross_from_one_part_into_the_next() -> None:
    original = "first text ends here\n\nmuch that was dropped\n\nlast text"
    assert recover(original, "first ends\n\nlast text", "ends last") == "ends last"


def test_single_words_and_marks_are_left_alone() -> None:
    assert recover("Paris, the city, of light", "Paris, light", "Paris, no, light") == "Paris, no, light"


def test_scripts_without_spaces_are_matched_by_character() -> None:
    assert (
        recover("東京都の知事は小池百合子氏です", "東京都知事小池氏", "答えは知事小池氏。")
        == "答えは知事は小池百合子氏。"
    )


@given(st.sampled_from(NASTY), st.sampled_from(NASTY), st.sampled_from(NASTY))
def test_any_text_has_an_answer_and_the_original_recovers_to_itself(a: str, b: str, response: str) -> None:
    assert isinstance(recover(a, b, response), str)
    assert recover(a, a, response) == response


@given(LETTERS, st.data())
def test_what_was_cut_is_recovered_to_a_passage_that_holds_it(words: list[str], data: st.DataObject) -> None:
    kept = [word for word in words if data.draw(st.booleans())]
    begin = data.draw(st.integers(0, len(kept)))
    response = " ".join(kept[begin : data.draw(st.integers(begin, len(kept)))])
    found = recover(" ".join(words), " ".join(kept), response)
    assert found in " ".join(words)
    assert is_subsequence(response.split(), found.split())


@given(LETTERS, LETTERS, LETTERS)
def test_it_agrees_with_a_plain_search(original: list[str], compressed: list[str], response: list[str]) -> None:
    texts = (" ".join(original), " ".join(compressed), " ".join(response))
    assert recover(*texts) == " ".join(plain(original, compressed, response))


def test_long_texts_take_little_time() -> None:
    words = [f"w{number % 5000}" for number in range(60_000)]
    kept = words[::2]
    began = time.perf_counter()
    found = recover(" ".join(words), " ".join(kept), " ".join(kept[100:400]))
    assert found == " ".join(words[200:799])
    assert time.perf_counter() - began < 10


def is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


def plain(original: list[str], compressed: list[str], response: list[str]) -> list[str]:
    """Section 4.4 by trying everything."""
    result, at = [], 0
    while at < len(response):
        size = max((n for n in range(len(response) - at + 1) if occurs(response[at : at + n], compressed)), default=0)
        run = response[at : at + size]
        result += (shortest(run, original) or run) if size > 1 else response[at : at + max(1, size)]
        at += max(1, size)
    return result


def occurs(run: list[str], words: list[str]) -> bool:
    return any(words[at : at + len(run)] == run for at in range(len(words) - len(run) + 1))


def shortest(run: list[str], words: list[str]) -> list[str] | None:
    passages = (words[at : at + n] for n in range(1, len(words) + 1) for at in range(len(words) - n + 1))
    return next((passage for passage in passages if is_subsequence(run, passage)), None)


def test_words_and_marks_stand_apart_and_in_order() -> None:
    for text in NASTY:
        spans = word_spans(text)
        assert all(start < end for start, end in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
