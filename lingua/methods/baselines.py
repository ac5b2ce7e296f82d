"""Four baselines without a model, cheap enough for any corpus: the bar for every claim.

Each gives tokens evidence and lets the budget decide. For the first three a unit stands where its first token stands;
`truncate` and `lead` may pass over a last unit that does not fit for a smaller one that does.
"""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import Field

from lingua.budget.draft import Draft
from lingua.budget.selection import keep_best
from lingua.engine.score import Program
from lingua.shared import Aggregate, OnePassSettings
from lingua.text.units import self_information


class RaritySettings(OnePassSettings):
    """What `rarity` reads."""

    aggregate: Aggregate = Field("sum", description="how a unit's score is made of its tokens'")


def random(draft: Draft, own: OnePassSettings) -> Program[None]:
    """Units at random; the same text always loses the same ones."""
    for part in draft.parts:
        seed = hashlib.blake2b(part.text.encode(), digest_size=8).digest()
        part.token_scores = np.random.default_rng(int.from_bytes(seed, "big")).random(len(part.ids), np.float32)
    return _settled(draft)


def truncate(draft: Draft, own: OnePassSettings) -> Program[None]:
    """The beginning of the whole prompt."""
    position = 0
    for part in draft.parts:
        part.token_scores = (1 / np.arange(position + 1, position + len(part.ids) + 1)).astype(np.float32)
        position += len(part.ids)
    return _settled(draft)


def lead(draft: Draft, own: OnePassSettings) -> Program[None]:
    """The beginning of each context string, the same share of all."""
    for part in draft.parts:
        part.token_scores = 1 - np.linspace(0, 1, len(part.ids), endpoint=False, dtype=np.float32)
    return _settled(draft)


def rarity(draft: Draft, own: OnePassSettings) -> Program[None]:
    """Rare words: the sum of −ln p of their tokens, whose frequency the tokenizer itself knows (`self_information`)."""
    rare = self_information(np.concatenate([part.ids for part in draft.parts]))
    ends = np.cumsum([len(part.ids) for part in draft.parts])
    for part, values in zip(draft.parts, np.split(rare, ends[:-1]), strict=True):
        part.token_scores = values
    return _settled(draft)


def _settled(draft: Draft) -> Program[None]:
    """A program that asks for nothing."""
    keep_best(draft)
    yield from ()
