"""How a small model sees the target's text: perplexity, bits per byte, and whether it is surprised where the target is.

Tokenizers differ, so surprisal is compared between characters at which a token ends in both: sums over such stretches
are exact, nothing is spread or guessed. Agreement is Spearman's rank correlation over the stretches of a response,
averaged over responses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jobs.training.examples import Example
from jobs.training.packing import Tokens
from jobs.training.place import Place
from jobs.training.surprisal import Reader
from lingua.tokens import Ints

Floats = npt.NDArray[np.floating[Any]]
FEWEST = 3
"""Stretches below which a rank correlation says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A response as one model sees it: where its tokens end, in characters, and the surprisal of each, in nats."""

    ends: Ints
    surprisal: Floats


@dataclass(frozen=True, slots=True)
class Measured:
    """A model on held-out responses; `agreement` is None where the target's probabilities cannot be had.

    rows, tokens    how many responses, and tokens of them in the model's own tokenizer
    compared        responses that `agreement` is the mean of
    """

    perplexity: float
    bits_per_byte: float
    agreement: float | None
    rows: int
    tokens: int
    compared: int


def measure(reader: Reader, held: Sequence[tuple[Example, Tokens, Seen | None]], window: int, place: Place) -> Measured:
    """All workers read their part of the held-out responses; all get the result."""
    mine = place.share(held)
    found = reader.each([tokens for _, tokens, _ in mine], window)
    sums = torch.zeros(6, dtype=torch.float64)
    for (example, tokens, target), surprisal in zip(mine, found, strict=True):
        size = len(example.response[: int(tokens.ends[-1])].encode())
        rho = None if target is None else agreement(Seen(tokens.ends, surprisal), target)
        sums += torch.tensor([surprisal.sum(), len(surprisal), size, 1, rho or 0.0, rho is not None])
    total = sums.float().to(place.device)
    place.sum([total])
    nats, count, size, rows, rank, compared = total.tolist()
    shared = rank / compared if compared else None
    return Measured(math.exp(nats / count), nats / math.log(2) / size, shared, int(rows), int(count), int(compared))


def agreement(one: Seen, other: Seen) -> float | None:
    """Spearman's correlation over the stretches that both can be cut into; None where it is not defined."""
    common = np.intersect1d(one.ends, other.ends)
    ranks = [_ranks(_sums(seen, common)) for seen in (one, other)]
    if len(common) < FEWEST or any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _sums(seen: Seen, ends: Ints) -> Floats:
    """Surprisal between consecutive ends."""
    reached = np.cumsum(seen.surprisal, dtype=np.float64)[np.searchsorted(seen.ends, ends, side="right") - 1]
    return np.diff(reached, prepend=0.0)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]
