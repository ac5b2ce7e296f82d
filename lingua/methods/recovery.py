"""Subsequence recovery: section 4.4 of LongLLMLingua (arXiv 2310.06839). Needs no model.

A model that answers from a compressed prompt repeats what is left there: "Wilhelm Röntgen" for "Wilhelm Conrad
Röntgen". What the response has word for word from the compressed prompt is replaced by the passage of the original that
it was cut from. Text is compared by words and punctuation marks; all else of the response stays as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

import regex

from lingua.prompt import Span
from lingua.text.words import is_word, word_spans

MOST_STEPS = 5_000_000
"""Looks at words of the original in one call: what is left of a response that would need more stays as it is."""
_BREAK = regex.compile(r"\n\s*\n")


def recover(original: str, compressed: str, response: str) -> str:
    """`response` with its longest spans that occur in `compressed` written as they are in `original`.

    original, compressed   texts of the prompt before and after compression (`Prompt.text`, `CompressedPrompt.text`)

    A span never crosses a blank line of the compressed text, where parts meet. One that is whole in the original, or
    does not occur there, stays untouched; so does what would take too long (`MOST_STEPS`: the same few words for ever).
    """
    source, spans = _Original(original), word_spans(response)
    words = [response[start:end] for start, end in spans]
    pieces, done = list[str](), 0
    for begin, end in _shared_runs(words, _Runs(compressed)):
        window = source.shortest(words[begin:end])
        if window is not None:
            pieces += [response[done : spans[begin][0]], original[window[0] : window[1]]]
            done = spans[end - 1][1]
    return "".join([*pieces, response[done:]])


def _shared_runs(words: Sequence[str], known: _Runs) -> Iterator[Span]:
    """From left to right the longest runs of `words` that are known, beginning and ending in a word, of two or more."""
    begin = 0
    while begin < len(words):
        end = after = begin + known.longest_prefix(words, begin)
        while begin < end and not is_word(words[begin]):
            begin += 1
        while begin < end and not is_word(words[end - 1]):
            end -= 1
        if end - begin > 1:
            yield begin, end
        begin = max(after, begin + 1)


class _Runs:
    """The words of a text, by where they stand; between paragraphs a place is left free."""

    def __init__(self, text: str) -> None:
        self._places: dict[str, set[int]] = defaultdict(set)
        place = count()
        for paragraph in _BREAK.split(text):
            for start, end in word_spans(paragraph):
                self._places[paragraph[start:end]].add(next(place))
            next(place)
        self._steps = MOST_STEPS

    def longest_prefix(self, words: Sequence[str], begin: int) -> int:
        """How many of `words` from `begin` on occur in a row; none once that takes too long."""
        found, end = self._places.get(words[begin], set()), begin
        while found and self._steps > 0:
            self._steps -= len(found)
            end += 1
            following = self._places.get(words[end], set()) if end < len(words) else set()
            found = {place + 1 for place in found} & following
        return end - begin if self._steps > 0 else 0


class _Original:
    """The words of a text, by where they stand."""

    def __init__(self, text: str) -> None:
        self._spans = word_spans(text)
        self._steps = MOST_STEPS
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, (start, end) in enumerate(self._spans):
            self._places[text[start:end]].append(place)

    def shortest(self, words: Sequence[str]) -> Span | None:
        """Characters of the shortest passage that holds `words` as a subsequence but not in a row; else None.

        Of passages of the same length the first. Only places of the words themselves are looked at.
        """
        self._steps -= sum(times * len(self._places.get(word, ())) for word, times in Counter(words).items())
        if self._steps < 0:
            return None
        latest = [-1] * (len(words) + 1)
        best: Span | None = None
        for place, steps in self._meetings(words):
            for step in steps:
                latest[step + 1] = place if step == 0 else latest[step]
            found = latest[len(words)]
            if found >= 0 and (best is None or place - found < best[1] - best[0]):
                best = found, place
        if best is None or best[1] - best[0] < len(words):
            return None
        return self._spans[best[0]][0], self._spans[best[1]][1]

    def _meetings(self, words: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """The places that hold any of `words`, ascending, each with the positions of its word in them, descending."""
        steps: dict[int, list[int]] = {}
        positions: dict[str, list[int]] = defaultdict(list)
        for position in range(len(words) - 1, -1, -1):
            positions[words[position]].append(position)
        for word, found in positions.items():
            steps.update((place, found) for place in self._places.get(word, ()))
        return iter(sorted(steps.items()))
