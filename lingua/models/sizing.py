"""What fits into a GPU's memory, by arithmetic on what is free once the weights are there, not by trial."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import torch

from lingua.errors import ModelError
from lingua.models.pooled import MOST_KEYS, MOST_PAIRS

_BATCH_TOKENS = {"cuda": 16_384, "cpu": 1_024}
ENCODER_BATCH = {"cuda": 32_768, "cpu": 4_096}
_LEAST_BATCH_TOKENS = 512
_LEAST_FULL, _HELD_PER_ASKED = 4_096, 12
"""Tokens from which a batch keeps a GPU busy. Programs hold so many tokens for one that they ask for at a time:
contexts of some 1,500 and a segment of 200, with two batches taking turns."""
_CPU_CACHE_BYTES = 1 << 30
"""Many times what fills its small batches."""
_MOST_TOKENS = 1 << 22
"""Of context that are alive at once: more than all programs ask for together."""
HEAD_ELEMENTS = {"cuda": 1 << 26, "cpu": 1 << 22}
"""Logits alive at once, on a CPU so few that they stay in its caches: a product takes as many rows as fit."""
FLOAT_ELEMENTS = {"cuda": 1 << 24, "cpu": 1 << 20}
"""Of these, how many are float32 at once, and again as many log-likelihoods."""
LEAST_ROWS = 16
_MASK_BYTES = 3
"""Per (query, key) pair: whether it is seen, and what a kernel makes of that."""
_SOFTCAP_BYTES = 12
"""Per (query, key) pair and head: logits, where they are capped, and their float32 copy."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a scorer may take of its device.

    batch_tokens   tokens per batch; None: chosen for the device. More than fit are made fewer
    share          of a GPU's memory that is free once the weights are there; the rest is for what comes later: rankers,
                   encoders, workspaces
    card           of the GPU itself: no more of its whole memory is counted as free, so that several workers on one
                   card plan with what is theirs, whoever comes first
    """

    batch_tokens: int | None = None
    share: float = 0.75
    card: float = 1.0


USUAL = Allowance()


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens computed per batch; context tokens alive at once; slots of the pool, which hold both."""

    batch_tokens: int
    live_tokens: int
    pool_tokens: int

    def within(self, pool: int) -> Sizes:
        """The same with a pool of so many slots: batches are made smaller before they take half of it."""
        batch = self.batch_tokens
        while batch > _LEAST_BATCH_TOKENS and 4 * batch > pool:
            batch //= 2
        return Sizes(batch, (pool - 2 * batch) * 4 // 5, pool)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model's configuration its memory depends on; `size` bytes an element."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    softcap: bool
    size: int

    @classmethod
    def of(cls, config: Any, dtype: torch.dtype) -> ModelShape:
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            inner=_known(config, "intermediate_size") or 4 * config.hidden_size,
            heads=heads,
            kv_heads=_known(config, "num_key_value_heads") or heads,
            head_size=_known(config, "head_dim") or config.hidden_size // heads,
            vocabulary=config.vocab_size,
            softcap=bool(_known(config, "attn_logit_softcapping")),
            size=dtype.itemsize,
        )

    @property
    def per_context_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_size * self.size

    def activations(self, tokens: int) -> int:
        """Bytes of a batch: the widest moment of a layer, normalisation in float32, ids and places."""
        queries = (2 * self.heads + 2 * self.kv_heads) * self.head_size
        return tokens * (self.size * (4 * self.hidden + 3 * self.inner + queries) + 3 * 4 * self.hidden + 64)

    @property
    def gathered(self) -> int:
        """Bytes of the keys and values that are attended at once, heads repeated, and of their masks."""
        heads = self.kv_heads + (self.heads if self.heads > self.kv_heads else 0)
        keys = 2 * MOST_KEYS * heads * self.head_size * self.size
        return keys + MOST_PAIRS * (self.heads * _SOFTCAP_BYTES if self.softcap else _MASK_BYTES)

    @property
    def logits(self) -> int:
        """Bytes of a slice of the head."""
        return head_bytes("cuda", self.vocabulary, self.size)


def head_bytes(device: str, vocabulary: int, size: int) -> int:
    """The most that a slice takes, `size` bytes an element of the model's dtype."""
    logits = max(HEAD_ELEMENTS[device], LEAST_ROWS * vocabulary)
    return logits * size + 2 * max(FLOAT_ELEMENTS[device], vocabulary) * 4


def _known(config: Any, name: str) -> int:
    return int(getattr(config, name, None) or 0)


def choose_sizes(config: Any, dtype: torch.dtype, device: torch.device, allowance: Allowance) -> Sizes:
    """By the memory of the device, on which the weights lie already. Raises ModelError where too little is left."""
    shape = ModelShape.of(config, dtype)
    if device.type == "cuda":
        return on_gpu(shape, int(free_bytes(device, allowance.card) * allowance.share), allowance.batch_tokens)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    live = max(1, min(_CPU_CACHE_BYTES, physical // 4) // 2 // shape.per_context_token)
    batch = allowance.batch_tokens or _BATCH_TOKENS.get(device.type, 4_096)
    return Sizes(batch, live, live + live // 4 + 2 * batch)


def encoder_batch(config: Any, dtype: torch.dtype, device: torch.device, allowance: Allowance) -> int:
    """Tokens that an encoder reads at once: two batches fit into what it may take of a GPU."""
    batch = allowance.batch_tokens or ENCODER_BATCH.get(device.type, 4_096)
    if device.type == "cuda":
        shape, usable = ModelShape.of(config, dtype), free_bytes(device, allowance.card) * allowance.share
        while batch > _LEAST_BATCH_TOKENS and shape.activations(batch) > usable // 2:
            batch //= 2
    return batch


def free_bytes(device: torch.device, card: float = 1.0) -> int:
    """Memory that nobody has, and what torch holds without using it; of a share of the `card`, what is left of that."""
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - own
    return max(0, min(int(free + kept), int(total * card) - own))


def on_gpu(shape: ModelShape, usable: int, batch_tokens: int | None) -> Sizes:
    """The pool takes what batches leave of `usable` bytes; batches are made smaller before they take half of it.

    A batch that nobody asked for is also made smaller where programs in the pool could not fill it: with a 7B model on
    80 GB they then hold a third more, and every batch is as full as it can be.
    """
    batch = batch_tokens or _BATCH_TOKENS["cuda"]
    fixed = shape.gathered + shape.logits

    def pool() -> int:
        return min(2 * _MOST_TOKENS, (usable - fixed - shape.activations(batch)) // shape.per_context_token)

    while batch > _LEAST_BATCH_TOKENS and (
        # with its own keys and values, and those of the probes that are still held
        fixed + shape.activations(batch) + 2 * batch * shape.per_context_token > usable // 2
        or (batch_tokens is None and batch > _LEAST_FULL and _HELD_PER_ASKED * batch > pool())
    ):
        batch //= 2
    live = (pool() - 2 * batch) * 4 // 5
    if live < 1:
        fault = f"{max(0, usable) >> 20} MiB of GPU memory may be used beside the model: too little to compress with it"
        raise ModelError(f"{fault}; free some, use a larger share of it (gpu_memory), or a smaller model")
    return Sizes(batch, live, pool())


_EXHAUSTED = re.compile(r"out of memory|(CUBLAS|CUDNN|CUSOLVER)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that the device has no memory left, also as its libraries put it.

    cuBLAS that cannot make its workspace fails with a plain RuntimeError.
    """
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None
    )
