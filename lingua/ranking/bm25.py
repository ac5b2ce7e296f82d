"""BM25 (Robertson and Zaragoza 2009, formula 3.15) over the context strings of one prompt, which are the collection.

The idf is the one that stays positive, ln(1 + (N − n + ½) / (n + ½)): in so small a collection most words are frequent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lingua.ranking.protocol import Importance
from lingua.words import grams

K1, B = 1.5, 0.75
"""How soon repetition of a word saturates, and how much long documents are discounted."""


def bm25(question: str, documents: Sequence[str]) -> Importance:
    """Relevance of each document to the question [documents], 0 where they share no word."""
    counts = [Counter(grams(document)) for document in documents]
    lengths = np.asarray([count.total() for count in counts], np.float64)
    norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
    relevance = np.zeros(len(documents))
    for term in dict.fromkeys(grams(question)):
        frequency = np.asarray([count[term] for count in counts], np.float64)
        holders = np.count_nonzero(frequency)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        relevance += idf * frequency * (K1 + 1) / (frequency + norm)
    return relevance.astype(np.float32)
