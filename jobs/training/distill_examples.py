"""Labels → what an encoder is trained with: windows of token ids, each token with the target of its word.

Windows are those in which `method: llmlingua2` reads a text. A word's target is learnt by all its tokens, since its
keep probability will be the mean of theirs. Surprisal has no upper end, so what is learnt of it is its rank among all
words of the training texts: a number in [0, 1] that keeps their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.training.labels_chunks import Chunker
from jobs.training.labels_records import Labelled
from lingua.errors import ConfigError
from lingua.units import Floats

Transform = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """ids [t] of the text's tokens without special tokens, the word [t] of each, and the target [t] of that word."""

    ids: list[int]
    word: npt.NDArray[np.int64]
    target: Floats


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on and what is measured with."""

    train: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]


def split(records: Sequence[Labelled], share: float, seed: int) -> Split:
    """Hold out about `share` of the rows with all their chunks, drawn by the seed and the row alone.

    Raises ConfigError when either side is empty.
    """
    origins = sorted({record.origin for record in records}, key=lambda origin: _draw(seed, origin))
    held = set(origins[: max(1, round(share * len(origins)))])
    found = Split(
        tuple(record for record in records if record.origin not in held),
        tuple(record for record in records if record.origin in held),
    )
    if not found.train:
        raise ConfigError(f"held_out = {share}: of {len(origins)} usable rows none is left to train on; give more rows")
    return found


def transform(learnt: str, records: Sequence[Labelled], rate: float) -> Transform:
    """From scores to targets in [0, 1], as the scores of all `records` are spread. ConfigError where they are none."""
    scores = np.sort(np.concatenate([np.asarray(record.scores, np.float32) for record in records]))
    if learnt == "rank":
        return lambda values: _rank(scores, values)
    if learnt == "kept":
        limit = scores[min(len(scores) - 1, int((1 - rate) * len(scores)))]
        return lambda values: (values >= limit).astype(np.float32)
    if scores[0] < 0 or scores[-1] > 1:
        raise ConfigError(f"scores from {scores[0]:g} to {scores[-1]:g} are no targets in [0, 1]; use --targets rank")
    return lambda values: values


def windows_of(record: Labelled, chunker: Chunker, targets: Transform) -> Iterator[Window]:
    """The windows of one labelled text."""
    part = chunker.part(record.text)
    starts = np.cumsum([0, *map(len, record.words)])[:-1]
    word = np.searchsorted(starts, part.encoding.token_starts, side="right") - 1
    target = targets(np.asarray(record.scores, np.float32))[word] if len(word) else np.zeros(0, np.float32)
    for begin, end in chunker.ranges(part):
        yield Window(part.ids[begin:end].tolist(), word[begin:end], target[begin:end])


def batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The order of one epoch: numbers of windows by `size`, like lengths together, drawn by seed and epoch."""
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    stretch = 50 * size
    sorted_ = [
        number
        for begin in range(0, len(order), stretch)
        for number in sorted(order[begin : begin + stretch].tolist(), key=lambda one: -lengths[one])
    ]
    found = [sorted_[begin : begin + size] for begin in range(0, len(sorted_), size)]
    return [found[place] for place in generator.permutation(len(found))]


def _rank(known: Floats, values: Floats) -> Floats:
    """The middle of the places that each value has among the sorted `known`, as a share."""
    left, right = (np.searchsorted(known, values, side=side) for side in ("left", "right"))
    return ((left + right) / (2 * len(known))).astype(np.float32)


def _draw(seed: int, origin: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{origin}".encode(), digest_size=16).digest()
