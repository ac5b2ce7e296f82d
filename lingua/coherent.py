"""Selection in pieces that can still be read: whole sentences for most of a budget, then phrases, then single units.

A model reads an answer where it stands in a sentence, and finds more answers where words compete; so the budget is
shared (`coherence`), and each part of it goes to the pieces of most evidence: of sentences the mean of their units, of
phrases and units the evidence per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingua.config import CompressionConfig
from lingua.draft import Part
from lingua.select import choose
from lingua.tokens import Ints
from lingua.units import Bools, Floats, phrase_edges, sentence_edges


def keep_coherent(parts: Sequence[Part], budget: float, config: CompressionConfig) -> None:
    """Keep the best of all `parts` together that fits into `budget` target tokens."""
    pool = _Pool.of(parts, config)
    sentences = pool.groups([sentence_edges(part.text, config.language) for part in parts])
    phrases = pool.groups([phrase_edges(part.text) for part in parts])
    single = np.arange(len(pool.keep))
    pool.take(sentences, np.ones(len(single), np.int64), config.coherent_share * budget)
    pool.take(phrases, pool.costs, budget)
    pool.take(single, pool.costs, budget)
    ends = np.cumsum([len(part.keep) for part in parts])[:-1]
    for part, keep in zip(parts, np.split(pool.keep, ends), strict=True):
        part.keep = keep


@dataclass(slots=True, eq=False)
class _Pool:
    """The units of several parts: evidence and target tokens of each [u], and which are kept."""

    parts: Sequence[Part]
    evidence: Floats
    costs: Ints
    keep: Bools

    @classmethod
    def of(cls, parts: Sequence[Part], config: CompressionConfig) -> _Pool:
        scores = np.concatenate([part.scores(config) for part in parts])
        return cls(
            parts, scores, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("costs", "must"))
        )

    def groups(self, edges: list[Ints]) -> Ints:
        """Which group each unit [u] belongs to, if groups begin at these characters of each part."""
        numbers, count = [], 0
        for part, begins in zip(self.parts, edges, strict=True):
            numbers.append(count + part.group(begins))
            count += max(1, len(begins))
        return np.concatenate(numbers)

    def take(self, group: Ints, weights: Ints, budget: float) -> None:
        """Complete the groups of most evidence per weight among their missing units, as far as the budget goes."""
        number = int(group.max(initial=-1)) + 1
        missing = ~self.keep
        costs = np.bincount(group, self.costs * missing, number)
        weight = np.bincount(group, weights * missing, number)
        value = (np.bincount(group, self.evidence * missing, number) / np.maximum(1, weight)).astype(np.float32)
        left = budget - self.costs[self.keep].sum()
        self.keep |= choose(value, costs, np.zeros(number, bool), left)[group]
