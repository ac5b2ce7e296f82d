"""How much of the question each sentence speaks of: in the words that both have, and in what they mean.

`focus` counts shared words, or pairs of characters where no spaces are written, the rare ones more; it asks no model.
`nearness` compares the states that an encoder gives their tokens, as late interaction does (ColBERT, arXiv 2004.12832).
The sentences of all context strings are the collection whose frequencies, mean and spread count. A sentence's string
counts as much as the sentence itself, since what a question asks is often spread over a passage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise

import numpy as np
import numpy.typing as npt

from lingua.ranking.protocol import Importance
from lingua.score import Context, Program, Score
from lingua.tokens import Encoding, Ints, SourceTokenizer
from lingua.words import grams, is_word, word_spans

States = npt.NDArray[np.float32]
MEANING = 0.5
"""What a standard deviation of a sentence's own meaning weighs; one of its words', and of its string's, weighs 1."""

ASKED = 1_024
"""Tokens of a question, of its beginning and its end, that are looked for one by one: a longer one is a document."""

READABLE = 0.75
"""Share of a question's words that an encoder's tokenizer must know for the encoder to be asked."""


def focus(question: str, strings: Sequence[Sequence[str]]) -> list[Importance]:
    """For each string's sentences [s] the share of the question's information in them and their string, in [0, 1]."""
    words = [[set(grams(sentence)) for sentence in sentences] for sentences in strings]
    asked = _information(set(grams(question)), [sentence for sentences in words for sentence in sentences])
    total = math.fsum(asked.values()) or 1.0
    return [_of_string(sentences, asked) / np.float32(total) for sentences in words]


def _information(question: set[str], sentences: list[set[str]]) -> dict[str, float]:
    """The question's words with their inverse frequency among the sentences; those found nowhere count too."""
    holders = Counter(word for sentence in sentences for word in sentence & question)
    found = {word: holders[word] for word in question}
    return {word: math.log(1 + (len(sentences) - n + 0.5) / (n + 0.5)) for word, n in found.items()}


def _of_string(sentences: list[set[str]], asked: dict[str, float]) -> Importance:
    found = [_sum(sentence, asked) for sentence in sentences]
    together = _sum(set().union(*sentences), asked)
    return np.asarray([(one + together) / 2 for one in found], np.float32)


def _sum(words: set[str], asked: dict[str, float]) -> float:
    return math.fsum(asked[word] for word in words & asked.keys())  # exact, so in any order


def reads(reader: SourceTokenizer, question: str) -> bool:
    """Whether the tokenizer of an encoder knows the words of `question`.

    Of a script that it never saw it knows nothing, or single letters only: what its encoder makes of them is noise.
    """
    (read,) = reader.encode([question])
    words = [(start, end) for start, end in word_spans(question) if is_word(question[start:end])]
    return sum(_known(read, start, end, reader.unknown) for start, end in words) >= READABLE * len(words)


def _known(read: Encoding, start: int, end: int, unknown: int | None) -> bool:
    """Whether the tokens of the word at these characters are known ones, and fewer than its letters (of one: one)."""
    begins = read.token_starts
    if not len(begins):
        return False
    own = begins[max(0, int(np.searchsorted(begins, start, side="right")) - 1)]
    first, behind = np.searchsorted(begins, [own, end]).tolist()
    tokens = read.ids[first:behind].tolist()
    return unknown not in tokens and len(tokens) < max(2, end - start)


def nearness(
    question: str, strings: Sequence[Sequence[str]], reader: SourceTokenizer, window: int
) -> Program[list[Importance]]:
    """For each string's sentences [s] how near they are to the question, in standard deviations over all sentences.

    Three things are added up: how near the question's tokens each have one in the sentence; the cosine of the mean
    states; the greatest of these in the sentence's string. Strings are read whole, in windows of `window` tokens, so
    that a sentence is understood where it stands. `reader` and `window` are the encoder's.
    """
    read = reader.encode([question, *map("".join, strings)])
    asked, *states = yield from _states(read, window)
    places = [_sentences(one, string) for one, string in zip(read[1:], strings, strict=True)]
    found = [
        _compare(asked, state, place, len(string)) for state, place, string in zip(states, places, strings, strict=True)
    ]
    meaning, words = (np.concatenate(each) for each in zip(*found, strict=True))
    ends = list(accumulate(map(len, strings), initial=0))
    best = [np.full(end - start, meaning[start:end].max()) for start, end in pairwise(ends) if end > start]
    near = MEANING * _spread(meaning) + _spread(words) + _spread(np.concatenate(best))
    return np.split(near, ends[1:-1])


def _states(read: Sequence[Encoding], window: int) -> Program[list[States]]:
    """The state of each token [t, d] of each text; [0, 0] of one without tokens."""
    windows = [[one.ids[at : at + window].tolist() for at in range(0, len(one), window)] for one in read]
    answers = iter((yield [Score(Context(room=len(ids)), ids) for each in windows for ids in each]))
    return [np.concatenate([*islice(answers, len(each))]) if each else np.zeros((0, 0), np.float32) for each in windows]


def _sentences(read: Encoding, sentences: Sequence[str]) -> Ints:
    """Which of its text's sentences each token [t] begins in."""
    begins = list(accumulate(map(len, sentences), initial=0))[:-1]
    return np.searchsorted(begins, read.token_starts, side="right") - 1


def _compare(asked: States, states: States, sentence: Ints, count: int) -> tuple[Importance, Importance]:
    """Of each sentence [s]: cosine of its mean state with the question's; mean cosine of what is nearest to its tokens.

    Both are 0 of a sentence without tokens.
    """
    meaning, words = np.zeros(count, np.float32), np.zeros(count, np.float32)
    if len(asked) and len(states):
        first = np.flatnonzero(np.diff(sentence, prepend=-1))
        owner = sentence[first]
        meaning[owner] = _unit(np.add.reduceat(states, first)) @ _unit(asked.sum(axis=0))
        some = asked if len(asked) <= ASKED else np.concatenate([asked[: ASKED // 2], asked[-ASKED // 2 :]])
        ends = pairwise([*first.tolist(), len(states)])
        words[owner] = [(states[begin:end] @ some.T).max(axis=0).mean() for begin, end in ends]
    return meaning, words


def _unit(vectors: States) -> States:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: States = vectors / np.maximum(length, 1e-6)
    return unit


def _spread(values: Importance) -> Importance:
    """In standard deviations from the mean; all 0 where nothing differs."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 1e-6 else np.zeros_like(values)
