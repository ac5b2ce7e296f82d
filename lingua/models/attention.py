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
from transformers import AttentionInterface

from lingua.models.batch import Batch, attention

PACKED = "lingua_packed"


@dataclass(slots=True, eq=False)
class PackedRow:
    """Tokens [begin, end) of the packed sequence; they follow the first `start` tokens of the scorer's `cache`."""

    begin: int
    end: int
    start: int
    cache: Any
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


batch_rows: ContextVar[Sequence[PackedRow] | Batch] = ContextVar("batch_rows")


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """In transformers' form: query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
    batch = batch_rows.get()
    if isinstance(batch, Batch):
        return batch.attend(module, (query, key, value), options), None
    parts = [_attend(module, query, key, value, row, options) for row in batch]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, row: PackedRow, options: dict[str, Any]) -> Tensor:
    """One row's attention [1, heads, m, d]."""
    keys, values = key[0, :, row.begin : row.end], value[0, :, row.begin : row.end]
    if row.cache is not None:
        keys, values = row.cache.extend(module.layer_idx, row.start, keys, values)
    queries = query[:, :, row.begin : row.end]
    mask = row.mask(options.get("sliding_window"), query.device)
    return attention(queries, keys[None], values[None], mask, options)


# Compiled layers leave here and come back: a batch's rows are the host's.
AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))  # type: ignore[no-untyped-call]
