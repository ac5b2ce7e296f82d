"""Attention over packed rows: a batch's new tokens lie in one sequence without padding, each row reads its own past.

Registered with transformers' attention interface, so that every architecture which uses it runs packed. The batch at
hand is found through a context variable, since not every model hands unknown arguments down to its attention layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from lingua.models.cache import KeyValues

PACKED = "lingua_packed"


@dataclass(slots=True, eq=False)
class PackedRow:
    """Tokens [begin, end) of the packed sequence; they stand at positions from `start` on, after those in `cache`."""

    begin: int
    end: int
    start: int
    cache: KeyValues | None
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, device: torch.device) -> Tensor | None:
        """Which keys [start + m] each of the m queries sees, True = seen; None: plainly causal from the first token."""
        if window is not None and window >= self.start + self.end - self.begin:
            window = None
        if window not in self.masks:
            self.masks[window] = self._mask(window, device)
        return self.masks[window]

    def _mask(self, window: int | None, device: torch.device) -> Tensor | None:
        if self.start == 0 and window is None:
            return None
        size = self.end - self.begin
        keys = torch.arange(self.start + size, device=device)
        queries = keys[self.start :, None]
        seen = keys <= queries
        return seen if window is None else seen & (keys > queries - window)


batch_rows: ContextVar[Sequence[PackedRow]] = ContextVar("batch_rows")


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """In transformers' form: query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
    parts = [_attend(module, query, key, value, row, options) for row in batch_rows.get()]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, row: PackedRow, options: dict[str, Any]) -> Tensor:
    """One row's attention [1, heads, m, d]."""
    keys, values = key[0, :, row.begin : row.end], value[0, :, row.begin : row.end]
    if row.cache is not None:
        keys, values = row.cache.extend(module.layer_idx, row.start, keys, values)
    queries = query[:, :, row.begin : row.end]
    mask = row.mask(options.get("sliding_window"), query.device)
    scale = options.get("scaling")
    if options.get("softcap"):
        return _softcapped(queries, keys, values, mask, (scale, options["softcap"]))
    return F.scaled_dot_product_attention(
        queries, keys[None], values[None], attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _softcapped(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scales: tuple[Any, float]
) -> Tensor:
    """The same for models that squash attention logits, which no fused kernel of torch does."""
    scale, cap = scales
    groups = queries.shape[1] // keys.shape[0]
    keys, values = keys.repeat_interleave(groups, 0)[None], values.repeat_interleave(groups, 0)[None]
    logits = queries @ keys.transpose(-1, -2) * (scale or queries.shape[-1] ** -0.5)
    logits = cap * torch.tanh(logits / cap)
    if mask is None:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    return torch.softmax(logits.float().masked_fill(~mask, float("-inf")), -1).to(values.dtype) @ values


AttentionInterface.register(PACKED, packed_attention)
