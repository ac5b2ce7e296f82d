"""Labels from questions that were asked: the words of a text that answered one score 1, all others 0.

The nearest there is to what compressed text is for. Whoever has questions and answers about texts like the corpus (a
search log, a reading-comprehension set) needs no teacher. An answer is looked for as whole words; where the row says at
which character it begins, it is that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import regex

from cluster.errors import RowError
from jobs.training.labels_records import Labelled, words_of
from lingua.prompt import Span

MOST_CHARACTERS = 60
"""Longer answers say little about single words."""


def label_answers(text: str, answers: Any, origin: str) -> Labelled:
    """The labels of one text. RowError when `answers` is no list of strings, or of objects that say the place."""
    if not isinstance(answers, list):
        raise RowError("no_answers", "the answers must be a list of strings, or of objects with text and answer_start")
    spans = [span for answer in answers for span in _places(text, *_answer(answer))]
    words = words_of(text)
    ends = list(accumulate(map(len, words)))
    pairs = zip([0, *ends], ends, strict=False)
    return Labelled(words, tuple(float(any(a < end and start < b for a, b in spans)) for start, end in pairs), origin)


def _answer(answer: Any) -> tuple[str, int | None]:
    wanted, begin = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, Mapping) else (answer, None)
    if not isinstance(wanted, str) or not (begin is None or isinstance(begin, int)):
        raise RowError("no_answers", f"an answer is a string, or an object with text and answer_start; not {answer!r}")
    return wanted.strip(), begin


def _places(text: str, answer: str, begin: int | None) -> Iterator[Span]:
    """Where an answer stands: as told, else its first occurrence as whole words; nowhere if it is empty or long."""
    if not 0 < len(answer) <= MOST_CHARACTERS:
        return
    if begin is not None:
        yield begin, begin + len(answer)
        return
    found = regex.search(rf"(?<!\w){regex.escape(answer)}(?!\w)", text, regex.IGNORECASE)
    if found is not None:
        yield found.span()
