"""How much of the question each sentence speaks of: in the words that both have, and in what they mean.

`focus` counts shared words, the rare ones more; it asks no model. `nearness` compares vectors that an encoder of
sentences gives. The sentences of all context strings are the collection whose frequencies, mean and spread count. A
sentence's string counts as much as the sentence itself, since what a question asks is often spread over a passage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from lingua.ranking.protocol import Importance
from lingua.score import Context, Program, Score, Surprisal
from lingua.tokens import SourceTokenizer
from lingua.words import terms


def focus(question: str, strings: Sequence[Sequence[str]]) -> list[Importance]:
    """For each string's sentences [s] the share of the question's information in them and their string, in [0, 1]."""
    words = [[set(terms(sentence)) for sentence in sentences] for sentences in strings]
    asked = _information(set(terms(question)), [sentence for sentences in words for sentence in sentences])
    total = sum(asked.values()) or 1.0
    return [_of_string(sentences, asked) / np.float32(total) for sentences in words]


def _information(question: set[str], sentences: list[set[str]]) -> dict[str, float]:
    """The question's words with their inverse frequency among the sentences; those found nowhere count too."""
    holders = {word: sum(word in sentence for sentence in sentences) for word in question}
    return {word: math.log(1 + (len(sentences) - n + 0.5) / (n + 0.5)) for word, n in holders.items()}


def _of_string(sentences: list[set[str]], asked: dict[str, float]) -> Importance:
    found = [_sum(sentence, asked) for sentence in sentences]
    together = _sum(set().union(*sentences), asked)
    return np.asarray([(one + together) / 2 for one in found], np.float32)


def _sum(words: set[str], asked: dict[str, float]) -> float:
    return sum(value for word, value in asked.items() if word in words)


def nearness(
    question: str, strings: Sequence[Sequence[str]], reader: SourceTokenizer, window: int
) -> Program[list[Importance]]:
    """For each string's sentences [s] how near they are to the question, and the nearest of their string.

    Each of the two in standard deviations from its mean over all sentences, added up: encoders differ in how near to
    each other they see any two texts. `reader` and `window` are the encoder's; what is longer is read in windows, of
    which the nearest counts.
    """
    sentences = [sentence for string in strings for sentence in string]
    asked, *read = (_windows(ids, window) for ids in reader.ids([question, *sentences]))
    vectors = yield [Score(Context(), ids) for ids in [*asked, *(ids for windows in read for ids in windows)]]
    near = _nearest(vectors[: len(asked)], vectors[len(asked) :], [len(windows) for windows in read])
    ends = list(accumulate(map(len, strings), initial=0))
    best = np.concatenate([np.full(end - start, near[start:end].max()) for start, end in pairwise(ends) if end > start])
    return np.split(_spread(near) + _spread(best), ends[1:-1])


def _windows(ids: list[int], size: int) -> list[list[int]]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def _nearest(asked: Sequence[Surprisal], read: Sequence[Surprisal], windows: Sequence[int]) -> Importance:
    """Cosine [texts] of the nearest of each text's windows to one of the question's; 0 where either has none."""
    near = np.zeros(len(windows), np.float32)
    if asked and read:
        cosines = (np.stack(read) @ np.stack(asked).T).max(axis=1)
        owner = np.repeat(np.arange(len(windows)), windows)
        near[np.unique(owner)] = -1
        np.maximum.at(near, owner, cosines)
    return near


def _spread(values: Importance) -> Importance:
    """In standard deviations from the mean; all 0 where nothing differs."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 1e-6 else np.zeros_like(values)
