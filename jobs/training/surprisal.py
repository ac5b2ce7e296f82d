"""Surprisal of responses under a causal model: what an alignment lowers, and what it is measured by.

Several examples fill one sequence, whose positions restart with each; from these transformers makes a mask that keeps
them apart. A trial finds models that ignore positions (ALiBi, recurrent layers): these get a padded batch, with a row
for each example. The end token is not part of a response: a compressor never asks for it.

Tokenizers differ, so the surprisal of two models is compared between characters at which a token ends in both: sums
over such stretches are exact.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # whose parts come when asked for: stats takes a second
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, DataCollatorWithFlattening

from jobs.training.rows import Example
from lingua.engine.score import Answer, BatchRow, Context
from lingua.models.causal import PlainScorer
from lingua.prompt import Ints
from lingua.text.tokens import Encoding, SourceTokenizer

Floats = npt.NDArray[np.floating[Any]]
NO_LABEL = -100
OPEN_PACKS = 32
"""Packs that are looked through for room before another one is begun: more fill better and take longer."""
FEWEST = 3
"""Stretches below which a rank correlation says nothing."""
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One example as a model reads it."""

    ids: Ints  # the start token if the model has one, the text before the response, the response [n]
    first: int  # which of them begins the response, at least 1
    ends: Ints  # the character of the response at which each of its tokens ends [n - first]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> Ints:
        """The ids of the response, and no label for what stands before."""
        return np.where(np.arange(len(self.ids)) < self.first, NO_LABEL, self.ids)


NOTHING = Tokens(np.zeros(2, np.int64), 2, np.zeros(0, np.int64))
"""What a worker reads that has nothing to read."""


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


def pack(lengths: Sequence[int], window: int, seed: int | None = None) -> list[list[int]]:
    """Numbers of examples that fill a sequence together: first fit among the newest packs, in an order by the seed."""
    order = range(len(lengths)) if seed is None else np.random.default_rng(seed).permutation(len(lengths)).tolist()
    packs: list[list[int]] = []
    room: list[int] = []
    for number in order:
        oldest = max(0, len(packs) - OPEN_PACKS)
        place = next((at for at in range(oldest, len(packs)) if room[at] >= lengths[number]), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(window)
        packs[place].append(number)
        room[place] -= lengths[number]
    return packs


# ---- reading


def collate(examples: Sequence[Tokens], apart: bool) -> dict[str, Any]:
    """Inputs and labels: one sequence where the model keeps examples `apart`, else a row for each."""
    both = [{"input_ids": one.ids.tolist(), "labels": one.labels.tolist()} for one in examples or [NOTHING]]
    if apart:  # with a cache of keys and values, positions would not keep them apart
        return {**DataCollatorWithFlattening()(both), "use_cache": False}  # type: ignore[no-untyped-call]
    fill = {"input_ids": 0, "labels": NO_LABEL}
    rows = {name: [torch.tensor(one[name]) for one in both] for name in fill}
    return {name: pad_sequence(rows[name], batch_first=True, padding_value=fill[name]) for name in fill}


def surprisal(logits: Tensor, labels: Tensor) -> Tensor:
    """−ln p of every labelled token, in nats and in order, float32 [tokens]."""
    labelled = labels[:, 1:] != NO_LABEL
    return F.cross_entropy(logits[:, :-1][labelled].float(), labels[:, 1:][labelled], reduction="none")


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    """The share of a batch in the mean surprisal of a step."""
    return surprisal(outputs.logits, labels).sum() / num_items_in_batch


def keeps_apart(model: Any) -> bool:
    """Whether a model reads the examples in one sequence as it reads each alone: tried out on two."""
    innermost = model.get_base_model() if hasattr(model, "get_base_model") else model  # inside peft's wrappers
    if "position_ids" not in inspect.signature(innermost.forward).parameters:
        return False
    vocabulary = model.get_input_embeddings().weight.shape[0]
    draw = np.random.default_rng(0)
    two = [Tokens(draw.integers(vocabulary, size=size), 1, np.arange(size - 1)) for size in (7, 9)]
    was = model.training
    model.eval()
    with torch.no_grad():
        packed, padded = (together(model, two, apart) for apart in (True, False))
    model.train(was)
    return bool(torch.allclose(packed, padded, rtol=TOLERANCE, atol=TOLERANCE))


def read(model: Any, examples: Sequence[Tokens], dtype: torch.dtype = torch.float32) -> list[Answer]:
    """Surprisal of the tokens of each response, as a compressor asks for it; products are in `dtype`."""
    rows = [BatchRow(Context(ids=one.ids[: one.first].tolist()), one.ids[one.first :].tolist()) for one in examples]
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        return PlainScorer(model.eval()).score(rows)


def together(model: Any, examples: Sequence[Tokens], apart: bool) -> Tensor:
    """Surprisal of all responses [tokens], read as in the training."""
    inputs = BatchEncoding(collate(examples, apart)).to(model.device)
    labels = inputs.pop("labels")
    return surprisal(model(**inputs).logits, labels)


# ---- measuring


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A response as one model sees it: where its tokens end, in characters, and the surprisal of each, in nats."""

    ends: Ints
    surprisal: Floats


def measure(rows: Sequence[tuple[Seen, str, Seen | None]]) -> dict[str, float | None]:
    """How a model sees responses; each row: as the model sees it, its text, as the target sees it where it tells.

    perplexity, bits_per_byte    of all responses
    agreement, compared          mean over the responses that can be compared, and how many; None where none can
    rows, tokens                 how many responses, and tokens of them in the model's own tokenizer
    """
    nats = float(sum(one.surprisal.sum(dtype=np.float64) for one, _, _ in rows))
    tokens = sum(len(one.ends) for one, _, _ in rows)
    size = sum(len(text[: int(one.ends[-1])].encode()) for one, text, _ in rows)
    found = [agreement(one, target) for one, _, target in rows if target is not None]
    ranks = [rank for rank in found if rank is not None]
    return {
        "perplexity": math.exp(nats / tokens),
        "bits_per_byte": nats / math.log(2) / size,
        "agreement": sum(ranks) / len(ranks) if ranks else None,
        "rows": len(rows),
        "tokens": tokens,
        "compared": len(ranks),
    }


def agreement(one: Seen, other: Seen) -> float | None:
    """Spearman's correlation over the stretches that both can be cut into; None where it is not defined."""
    common = np.intersect1d(one.ends, other.ends)
    reached = [
        np.cumsum(seen.surprisal, dtype=np.float64)[seen.ends.searchsorted(common, "right") - 1]
        for seen in (one, other)
    ]
    sums = [np.diff(values, prepend=0.0) for values in reached]
    if len(common) < FEWEST or any(np.ptp(values) == 0 for values in sums):
        return None
    return float(scipy.stats.spearmanr(*sums).statistic)
