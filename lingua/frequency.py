"""How much a token says by its frequency alone: the tokenizer's own knowledge, no language model."""

from __future__ import annotations

import numpy as np

from lingua.tokens import Ints
from lingua.units import Floats

PRIOR_TOKENS = 10_000
"""How many tokens of general text the prior weighs as much as."""


def self_information(ids: Ints) -> Floats:
    """−ln p of each token [n] by its frequency: how often the *other* tokens of the prompt are the same, over a prior.

    A tokenizer numbers its tokens about in the order of their frequency in the text that it was trained on (merges are
    learned that way, unigrams are sorted that way), so by Zipf's law p ∝ 1 / id: a list of word frequencies for every
    language that the tokenizer knows, at no cost. The prior weighs as much as `PRIOR_TOKENS` tokens of text.
    """
    _, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    prior = 1 / ((ids + 2) * np.log(max(3, ids.max(initial=0))))
    frequency = (counts[place] - 1 + PRIOR_TOKENS * prior) / (len(ids) + PRIOR_TOKENS)
    information: Floats = -np.log(frequency).astype(np.float32)
    return information
