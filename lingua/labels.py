"""Word labels: every word of a context with its score and whether it was kept, for reading and for training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lingua.draft import Drafter, Part
from lingua.methods import METHODS
from lingua.prompt import Prompt, Span
from lingua.score import Program
from lingua.select import settle
from lingua.units import Bools


@dataclass(frozen=True, slots=True)
class WordLabel:
    """One unit of a context string.

    text     with the white space before it: the texts of a string's labels add up to the string
    kept     whether anything of it is in the result
    score    its keep probability (llmlingua2), or its surprisal in nats; 0 where the method asked for none
    """

    text: str
    kept: bool
    score: float


Labels = tuple[tuple[WordLabel, ...], ...]
"""The labels of each context string."""


def label_words(prompt: Prompt, drafter: Drafter) -> Program[Labels]:
    """The program that labels one prompt: scored even where it is within its budget, then compressed."""
    draft = drafter.draft(prompt)
    whole = draft.finish("passthrough") if draft.fits else None
    yield from METHODS[drafter.config.method].program(draft)
    result = whole or settle(draft)
    scores = [part.scores(drafter.config).tolist() for part in draft.context]
    return tuple(map(_labels, draft.context, scores, result.kept_spans))


def _labels(part: Part, scores: Sequence[float], spans: Sequence[Span]) -> tuple[WordLabel, ...]:
    bounds = part.bounds.tolist()
    texts = [part.text[start:end] for start, end in pairwise(bounds)]
    return tuple(map(WordLabel, texts, _touched(part, spans).tolist(), scores))


def _touched(part: Part, spans: Sequence[Span]) -> Bools:
    """Which units [u] overlap one of the spans."""
    starts, ends = np.asarray(spans, np.int64).reshape(-1, 2).T
    begun = np.searchsorted(starts, part.bounds[1:], side="left")
    return begun > np.searchsorted(ends, part.bounds[:-1], side="right")
