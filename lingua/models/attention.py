"""Attention itself: rows of any lengths in one kernel without padding (`attend`), or padded under a mask (`masked`).

The kernel is torch's variable-length (flash) attention. Its causal mask is aligned to the bottom right: the last query
of a row sees its last key, as a row's new tokens after its cached ones ask for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Callable[..., Any]
States = tuple[Tensor, Tensor, Tensor]
MOST_KEYS = 1 << 17
"""Keys that are gathered at once; rows that see more together are attended in pieces."""
_MOST_HEAD_SIZE = 256
_HEAD_ALIGNED = 8
_FIRST_CAPABILITY = (8, 0)


@cache
def kernel() -> Kernel | None:
    """torch's `varlen_attn`; None where this torch has none, or one that takes neither a scale nor a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"scale", "window_size"} <= _parameters(varlen_attn) else None


@cache
def _parameters(function: Kernel) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


@cache
def _capable(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY


@dataclass(frozen=True, slots=True)
class Options:
    """What a layer's attention asks for: the factor of its logits, their cap, how many keys up to its own it sees."""

    scaling: float | None = None
    softcap: float | None = None
    window: int | None = None


def serves(query: Tensor, value: Tensor, options: Options) -> bool:
    """Whether the kernel can compute this layer: half precision on a GPU, heads as it wants them, plain softmax."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and size == value.shape[-1]
        and size % _HEAD_ALIGNED == 0
        and size <= _MOST_HEAD_SIZE
        and not options.softcap
        and kernel() is not None
        and _capable(query.device)
    )


def attend(states: States, place: RowBounds, options: Options) -> Tensor:
    """Query [T, heads, d], key and value [K, kv heads, d] of rows, one after the other → [T, heads, d]."""
    query, key, _ = states
    run = kernel()
    if run is None:
        raise RuntimeError("this torch has no variable-length attention")
    window = options.window
    left = -1 if window is None or window >= place.longest else window - 1
    grouped = {"enable_gqa": query.shape[1] != key.shape[1]} if "enable_gqa" in _parameters(run) else {}
    found: Tensor = run(
        *states,
        place.queries,
        place.keys,
        place.widest,
        place.longest,
        scale=options.scaling,
        window_size=(left, 0),
        **grouped,
    )
    return found


def masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """Query [r, heads, m, d], key and value [r, kv heads, k, d] → [r, heads, m, d]; mask None: plainly causal."""
    scale, cap = options.scaling, options.softcap
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and (cap or query.is_cuda):  # CUDA's fused kernels take a mask or grouped heads, not both
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if not cap:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=not query.is_cuda
        )
    logits = query @ key.transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
    logits = cap * torch.tanh(logits / cap)
    if mask is None:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    return torch.softmax(logits.float().masked_fill(~mask, float("-inf")), -1).to(value.dtype) @ value


@dataclass(frozen=True, slots=True, eq=False)
class RowBounds:
    """Where rows begin: `queries`, `keys` [r + 1] int32, from 0 to their sum; the most of each that one row has."""

    queries: Tensor
    keys: Tensor
    widest: int
    longest: int
