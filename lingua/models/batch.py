"""A batch over the pool: which slots it writes and reads is worked out once for all layers.

A layer then takes a handful of kernels, however many rows there are: one writes the new keys, one gathers what the rows
see, one attends without padding (`varlen`). Where that kernel cannot serve, rows of like lengths are gathered and
attended in groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lingua.models import varlen
from lingua.models.pool import Pool, PooledKeyValues, Slots
from lingua.models.upload import upload
from lingua.models.varlen import Options

_ALIGNED = 8
"""Keys of a group are a multiple of this: fused kernels ask it of a mask."""
_LEAST_FILL = 0.6
"""Share of a group's (query, key) pairs that must not be padding."""
MOST_PAIRS = 1 << 25
"""(query, key) pairs of a group of more than one row, which bounds the mask."""


States = tuple[Tensor, Tensor, Tensor]


class Batch:
    """What every layer needs to know of a batch: rows of m new tokens after `start` cached ones, all in the pool.

    Each call of `attend` is that of the next layer.

    new   [T] slot of each packed token; computed by the uploader of the batch's other integers
    """

    def __init__(self, pool: Pool, rows: Sequence[tuple[PooledKeyValues, int]], new: Tensor) -> None:
        self._pool, self._new = pool, new
        self._slots = [cache.slots for cache, _ in rows]
        self._sizes = np.asarray([len(cache.slots) - start for cache, start in rows])
        self._layer = -1

    def attend(self, states: States, options: Options) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
        self._layer += 1
        query, key, value = (state[0, :, : self._new.shape[0]].transpose(0, 1) for state in states)
        keys, values = self._pool.write(self._layer, self._new, key, value)
        if varlen.serves(query, value, options):
            return self._unpadded(query, (key, value), (keys, values), options)[None]
        groups, order = self._groups
        return torch.cat([one.attend(query, keys, values, options) for one in groups]).index_select(0, order)[None]

    def _unpadded(
        self, query: Tensor, new: tuple[Tensor, Tensor], pool: tuple[Tensor, Tensor], options: Options
    ) -> Tensor:
        found = []
        for piece in self._pieces:
            span = slice(piece.begin, piece.end)
            key, value = (one[span] if piece.fresh else all_[piece.slots] for one, all_ in zip(new, pool, strict=True))
            found.append(varlen.attend((query[span], key, value), piece.place, options))
        return found[0] if len(found) == 1 else torch.cat(found)

    @cached_property
    def _pieces(self) -> list[varlen.Piece]:
        return varlen.pieces(self._slots, self._sizes, self._new.device)

    @cached_property
    def _groups(self) -> tuple[list[_Group], Tensor]:
        """Rows that are computed together, and [T] where each token's result stands among those of all groups."""
        begins = np.cumsum([0, *self._sizes])
        order = np.zeros(begins[-1], np.int64)
        groups, done = [], 0
        for members in _grouped(
            [(int(size), len(slots)) for size, slots in zip(self._sizes, self._slots, strict=True)]
        ):
            group = _Group([self._slots[index] for index in members], self._sizes[members], begins[members])
            for line, index in enumerate(members):
                size = self._sizes[index]
                order[begins[index] : begins[index + 1]] = done + line * group.width + np.arange(size)
            done += len(members) * group.width
            groups.append(group)
        there = iter(upload(self._new.device, [order, *(one for group in groups for one in group.arrays)]))
        order_there = next(there)
        for group in groups:
            group.arrive(*islice(there, 4))
        return groups, order_there


class _Group:
    """Rows padded to the longest of them: `width` queries, and as many keys as the longest row sees."""

    def __init__(self, slots: Sequence[Slots], sizes: Slots, begins: Slots) -> None:
        lengths = np.asarray([len(one) for one in slots])
        self.width = int(sizes.max())
        queries = begins[:, None] + np.minimum(np.arange(self.width), sizes[:, None] - 1)
        keys = np.zeros((len(slots), -(-int(lengths.max()) // _ALIGNED) * _ALIGNED), np.int64)
        for line, one in enumerate(slots):
            keys[line, : len(one)] = one
        self.arrays = queries, keys, lengths - sizes, lengths
        self._masks: dict[int | None, Tensor] = {}

    def arrive(self, queries: Tensor, keys: Tensor, starts: Tensor, lengths: Tensor) -> None:
        """Take the `arrays` as they are on the device."""
        self._queries, self._keys, self._starts, self._lengths = queries, keys, starts, lengths

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Query [T, heads, d], pools [S, kv heads, d] → [rows · width, heads, d]."""
        asked = query[self._queries].transpose(1, 2)
        seen, known = keys[self._keys].transpose(1, 2), values[self._keys].transpose(1, 2)
        mask = self._mask(options.window)
        found = attention(asked, seen, known, mask, options)
        return found.transpose(1, 2).flatten(0, 1)

    def _mask(self, window: int | None) -> Tensor:
        """Which keys each query sees [rows, 1, width, keys]; one that is padding sees what the row's last one does."""
        if window not in self._masks:
            device = self._keys.device
            place = torch.arange(self._keys.shape[1], device=device)
            last = (self._lengths - 1)[:, None]
            position = torch.minimum(self._starts[:, None] + torch.arange(self.width, device=device), last)[:, :, None]
            seen = place <= position
            self._masks[window] = (seen if window is None else seen & (place > position - window))[:, None]
        return self._masks[window]


def _grouped(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Indices of rows (queries, keys) in groups of like lengths, so that little is padding."""
    groups: list[list[int]] = []
    pairs = widest = longest = 0
    for index in sorted(range(len(sizes)), key=lambda index: sizes[index]):
        queries, keys = sizes[index]
        width, length = max(widest, queries), max(longest, keys)
        rows = len(groups[-1]) + 1 if groups else 1
        small = rows * length <= varlen.MOST_KEYS and rows * width * length <= MOST_PAIRS
        if groups and small and pairs + queries * keys >= _LEAST_FILL * rows * width * length:
            groups[-1].append(index)
            pairs, widest, longest = pairs + queries * keys, width, length
        else:
            groups.append([index])
            pairs, widest, longest = queries * keys, queries, keys
    return groups


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Options) -> Tensor:
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
