"""How much of the question each sentence speaks of: shared words, the rare ones weigh more. No language model.

The sentences of all context strings are the collection whose word frequencies count. A sentence's string counts as much
as the sentence itself, since the words of a question are often spread over a passage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lingua.ranking.protocol import Importance
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
