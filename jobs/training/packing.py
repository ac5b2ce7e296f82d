"""Examples → tokens → packed sequences, in an order that the seed decides alone.

Several examples fill one sequence; positions begin anew with each, from which transformers makes a mask that keeps
them apart (`surprisal.py` tries it). Nothing is padded. The order of steps, packs and examples depends on the seed and
the epoch and not on the number of workers, so that a run can be taken up in the middle, and by others. The end token is
no part of a response: a compressor never asks for it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.training.examples import Example
from lingua.tokens import Encoding, Ints, SourceTokenizer

OPEN_PACKS = 32
"""Packs that are looked through for room before another one is begun: more fill better and take longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One example as a model reads it.

    ids [n]             the start token if the model has one, the text before the response, the response
    first               which of them begins the response, at least 1
    ends [n - first]    the character of the response at which each of its tokens ends
    """

    ids: Ints
    first: int
    ends: Ints

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> int:
        """Tokens of the response."""
        return len(self.ids) - self.first


def tokenize(examples: Sequence[Example], tokenizer: SourceTokenizer, window: int) -> list[Tokens | None]:
    """The examples' tokens, cut to a window; None where nothing of a response is within it."""
    texts = tokenizer.encode([example.before + example.response for example in examples])
    head = [] if tokenizer.bos is None else [tokenizer.bos]
    return [_tokens(head, text, len(example.before), window) for text, example in zip(texts, examples, strict=True)]


def _tokens(head: list[int], text: Encoding, start: int, window: int) -> Tokens | None:
    """A token that spans the border counts to the response."""
    ends = text.bounds[text.atom + 1]
    first = max(1, len(head) + int(np.searchsorted(ends, start, side="right")))
    ids = np.concatenate([head, text.ids]).astype(np.int64)[:window]
    return Tokens(ids, first, ends[first - len(head) : window - len(head)] - start) if first < len(ids) else None


Steps = list[list[list[int]]]
"""Of each step its packs, of each pack the indices of its examples."""


def make_steps(lengths: Sequence[int], window: int, packs: int, seed: int, epochs: int) -> Steps:
    """All steps: every example once an epoch, `packs` packs a step, the last of an epoch perhaps fewer."""
    steps: Steps = []
    for epoch in range(epochs):
        order = list(range(len(lengths)))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        filled = pack(order, lengths, window)
        steps += [filled[start : start + packs] for start in range(0, len(filled), packs)]
    return steps


def pack(order: Sequence[int], lengths: Sequence[int], window: int) -> list[list[int]]:
    """First fit among the newest open packs; no pack is longer than the window or its only example."""
    packs: list[list[int]] = []
    room: list[int] = []
    for index in order:
        oldest = max(0, len(packs) - OPEN_PACKS)
        place = next((at for at in range(oldest, len(packs)) if room[at] >= lengths[index]), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(window)
        packs[place].append(index)
        room[place] -= lengths[index]
    return packs
