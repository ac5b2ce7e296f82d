"""Keys and values of all contexts in one preallocated pool, a slot per token: nothing is copied, moved or reallocated.

A context is a list of slots, held on the host. A fork shares them; who writes takes new ones. Which slots a batch
writes and reads is worked out once for all layers (`Batch`); a layer then takes a handful of kernels, however many rows
there are: one writes the new keys, and for each group of rows of like lengths one gathers and one attends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from lingua.score import OutOfMemoryError

Slots = npt.NDArray[np.int64]
_NO_SLOTS: Slots = np.zeros(0, np.int64)
_ALIGNED = 8
"""Keys of a group are a multiple of this: fused kernels ask it of a mask."""
_LEAST_FILL = 0.6
"""Share of a group's (query, key) pairs that must not be padding."""


class Pool:
    """Room for the keys and values of `tokens` tokens per layer; a layer's is taken when it first writes."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._free = np.arange(tokens, dtype=np.int64)
        self._left = tokens
        self._holders = np.zeros(tokens, np.int32)
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def layers(self) -> int:
        """How many layers have written."""
        return len(self._layers)

    @property
    def left(self) -> int:
        return self._left

    def take(self, number: int) -> Slots:
        """Free slots, held once. Raises OutOfMemoryError."""
        if number > self._left:
            raise OutOfMemoryError(f"{number} tokens do not fit into a pool with {self._left} of {self._tokens} left")
        self._left -= number
        slots = self._free[self._left : self._left + number].copy()
        self._holders[slots] = 1
        return slots

    def share(self, slots: Slots) -> None:
        self._holders[slots] += 1

    def release(self, slots: Slots) -> None:
        """Give slots back; those that nobody else holds are free."""
        self._holders[slots] -= 1
        free = slots[self._holders[slots] == 0]
        self._free[self._left : self._left + len(free)] = free
        self._left += len(free)

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put `key`, `value` [T, kv heads, head size] into `slots` [T]; return all of the layer's."""
        if layer not in self._layers:
            self._layers[layer] = self._room_like(key), self._room_like(value)
        keys, values = self._layers[layer]
        keys[slots], values[slots] = key, value
        return keys, values

    def _room_like(self, one: Tensor) -> Tensor:
        """Zeros: padding reads slots that nobody has written, and what is masked must still be a number."""
        return torch.zeros((self._tokens, *one.shape[1:]), dtype=one.dtype, device=one.device)


class PooledKeyValues:
    """The slots of a context's first `length` tokens, and until the next request of `probed` more."""

    __slots__ = ("_pool", "length", "probed", "slots")

    def __init__(self, pool: Pool, slots: Slots = _NO_SLOTS) -> None:
        self._pool = pool
        self.slots = slots
        self.length, self.probed = len(slots), 0

    @property
    def layers(self) -> int:
        return self._pool.layers

    def fork(self) -> PooledKeyValues:
        slots = self.slots[: self.length]
        self._pool.share(slots)
        return PooledKeyValues(self._pool, slots)

    def reserve(self, start: int, tokens: int) -> None:
        """Slots of its own for positions [start, start + tokens)."""
        self._cut(start)
        self.slots = np.concatenate([self.slots, self._pool.take(tokens)])

    def settle(self, length: int, probed: int = 0) -> None:
        """Declare the first `length` tokens cached, and `probed` more for now."""
        self.length, self.probed = length, probed
        self._cut(length + probed)

    def keep(self, places: Sequence[int]) -> None:
        """Append those of the `probed` tokens as they were computed; the others are gone."""
        chosen = np.zeros(self.probed, bool)
        chosen[list(places)] = True
        probe = self.slots[self.length :]
        self._pool.release(probe[~chosen])
        self.slots = np.concatenate([self.slots[: self.length], probe[chosen]])
        self.length, self.probed = len(self.slots), 0

    def _cut(self, length: int) -> None:
        self._pool.release(self.slots[length:])
        self.slots = self.slots[:length]

    def __del__(self) -> None:
        self._pool.release(self.slots)


class Batch:
    """What every layer needs to know of a batch: rows of m new tokens after `start` cached ones, all in the pool.

    new        [T] slot of each packed token       groups   rows that are computed together
    order      [T] where each token's result stands among those of all groups, padding included
    """

    def __init__(self, pool: Pool, rows: Sequence[tuple[PooledKeyValues, int]], device: torch.device) -> None:
        self._pool = pool
        begins = np.cumsum([0, *(len(cache.slots) - start for cache, start in rows)])
        self._new = _on(device, np.concatenate([cache.slots[start:] for cache, start in rows]))
        order = np.zeros(begins[-1], np.int64)
        self._groups, done = [], 0
        for members in _grouped([(len(cache.slots) - start, len(cache.slots)) for cache, start in rows]):
            group = _Group([rows[index] for index in members], begins[members], device)
            for line, index in enumerate(members):
                size = begins[index + 1] - begins[index]
                order[begins[index] : begins[index + 1]] = done + line * group.width + np.arange(size)
            done += len(members) * group.width
            self._groups.append(group)
        self._order = _on(device, order)

    def attend(self, module: Any, states: tuple[Tensor, Tensor, Tensor], options: dict[str, Any]) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
        query, key, value = (state[0].transpose(0, 1) for state in states)
        keys, values = self._pool.write(module.layer_idx, self._new, key, value)
        found = [group.attend(query, keys, values, options) for group in self._groups]
        return torch.cat(found).index_select(0, self._order)[None]


class _Group:
    """Rows padded to the longest of them: `width` queries, and as many keys as the longest row sees."""

    def __init__(self, rows: Sequence[tuple[PooledKeyValues, int]], begins: Slots, device: torch.device) -> None:
        sizes = np.asarray([len(cache.slots) - start for cache, start in rows])
        lengths = np.asarray([len(cache.slots) for cache, _ in rows])
        self.width = int(sizes.max())
        queries = begins[:, None] + np.minimum(np.arange(self.width), sizes[:, None] - 1)
        keys = np.zeros((len(rows), -(-int(lengths.max()) // _ALIGNED) * _ALIGNED), np.int64)
        for line, (cache, _) in enumerate(rows):
            keys[line, : len(cache.slots)] = cache.slots
        self._queries, self._keys = _on(device, queries), _on(device, keys)
        self._starts, self._lengths = _on(device, lengths - sizes), _on(device, lengths)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, options: dict[str, Any]) -> Tensor:
        """Query [T, heads, d], pools [S, kv heads, d] → [rows · width, heads, d]."""
        asked = query[self._queries].transpose(1, 2)
        seen, known = keys[self._keys].transpose(1, 2), values[self._keys].transpose(1, 2)
        mask = self._mask(options.get("sliding_window"))
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
        if groups and pairs + queries * keys >= _LEAST_FILL * (len(groups[-1]) + 1) * width * length:
            groups[-1].append(index)
            pairs, widest, longest = pairs + queries * keys, width, length
        else:
            groups.append([index])
            pairs, widest, longest = queries * keys, queries, keys
    return groups


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    """Query [r, heads, m, d], key and value [r, kv heads, k, d] → [r, heads, m, d]; mask None: plainly causal."""
    scale, cap = options.get("scaling"), options.get("softcap")
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


def _on(device: torch.device, indices: Slots) -> Tensor:
    return torch.from_numpy(indices).to(device, non_blocking=True)
