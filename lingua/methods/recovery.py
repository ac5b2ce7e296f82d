"""Subsequence recovery: section 4.4 of LongLLMLingua (arXiv 2310.06839). Needs no model.

A model that answers from a compressed prompt repeats what is left there: "Wilhelm Röntgen" for "Wilhelm Conrad
Röntgen". What the response has word for word from the compressed prompt is replaced by the passage of the original that
it was cut from. Text is compared by words and punctuation marks; all else of the response stays as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
    for begin, end in _shared_runs(words, _Substrings.of(compressed)):
        window = source.shortest(words[begin:end])
        if window is not None:
            pieces += [response[done : spans[begin][0]], original[window[0] : window[1]]]
            done = spans[end - 1][1]
    return "".join([*pieces, response[done:]])


def _shared_runs(words: Sequence[str], known: _Substrings) -> Iterator[Span]:
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


@dataclass(slots=True, eq=False)
class _Substrings:
    """A suffix automaton (Blumer et al. 1985): all runs of words of a text, in linear time and space.

    moves    for each state the state after each word        link, length   as in the literature
    """

    moves: list[dict[str, int]] = field(default_factory=lambda: [{}])
    link: list[int] = field(default_factory=lambda: [-1])
    length: list[int] = field(default_factory=lambda: [0])
    last: int = 0

    @classmethod
    def of(cls, text: str) -> _Substrings:
        built = cls()
        for paragraph in _BREAK.split(text):
            built.last = 0
            for start, end in word_spans(paragraph):
                built._append(paragraph[start:end])
        return built

    def longest_prefix(self, words: Sequence[str], begin: int) -> int:
        """How many of `words` from `begin` on occur in a row."""
        state, at = 0, begin
        while at < len(words) and (following := self.moves[state].get(words[at])) is not None:
            state, at = following, at + 1
        return at - begin

    def _append(self, word: str) -> None:
        known = self.moves[self.last].get(word)
        if known is not None and self.length[known] == self.length[self.last] + 1:
            self.last = known
            return
        if known is not None:
            self.last = self._clone(self.last, known, word)
            return
        new = self._state({}, self.length[self.last] + 1)
        state = self.last
        while state >= 0 and word not in self.moves[state]:
            self.moves[state][word] = new
            state = self.link[state]
        self.link[new] = self._suffix(state, word) if state >= 0 else 0
        self.last = new

    def _suffix(self, state: int, word: str) -> int:
        following = self.moves[state][word]
        exact = self.length[following] == self.length[state] + 1
        return following if exact else self._clone(state, following, word)

    def _clone(self, state: int, following: int, word: str) -> int:
        copy = self._state(dict(self.moves[following]), self.length[state] + 1)
        self.link[copy], self.link[following] = self.link[following], copy
        while state >= 0 and self.moves[state].get(word) == following:
            self.moves[state][word] = copy
            state = self.link[state]
        return copy

    def _state(self, moves: dict[str, int], length: int) -> int:
        self.moves.append(moves)
        self.link.append(0)
        self.length.append(length)
        return len(self.moves) - 1


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
