"""Keys, values and attention on a GPU: contexts lie in one preallocated pool, and the rows of a batch share kernels.

In a `TokenPool` nothing is copied, moved or reallocated: a context is a list of slots, one a token, held on the host. A
fork shares them and takes new ones to write. The slots of a context that nobody holds any more are handed in when
Python forgets it, which may be in the middle of anything, and are free at the pool's next move.

The slots that a batch writes and reads are computed once for all layers, and a layer takes a handful of kernels however
many rows there are (`PooledRows`): one writes the new keys, one gathers what the rows see, one attends without padding.
That one is torch's variable-length (flash) attention; its causal mask is aligned to the bottom right: the last query of
a row sees its last key, as a row's new tokens after its cached ones ask for. Where it cannot serve, rows of like
lengths are gathered and attended in groups.
"""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lingua.engine.score import PoolFullError
from lingua.models.packed import Options, States, masked, upload
from lingua.prompt import Ints

Kernel = Callable[..., Any]
MOST_KEYS = 1 << 17
"""Keys that are gathered at once; rows that see more together are attended in pieces."""
_MOST_HEAD_SIZE = 256
_HEAD_ALIGNED = 8
_FIRST_CAPABILITY = (8, 0)
_NO_SLOTS: Ints = np.zeros(0, np.int64)


class TokenPool:
    """Room for the keys and values of `tokens` tokens per layer.

    like   a smaller pool into which a batch has written: all of the memory is taken at once, for the same layers.
           Without one, a layer's is taken when it first writes.
    """

    def __init__(self, tokens: int, like: TokenPool | None = None) -> None:
        self._tokens = tokens
        self._free = np.arange(tokens, dtype=np.int64)
        self._left = tokens
        self._holders = np.zeros(tokens, np.int32)
        self._handed_in: deque[list[Ints]] = deque()
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        for layer, (keys, values) in (like._layers if like is not None else {}).items():
            self._layers[layer] = self._room_like(keys), self._room_like(values)

    @property
    def layers(self) -> int:
        return len(self._layers)

    @property
    def tokens(self) -> int:
        """Slots, free or not."""
        return self._tokens

    @property
    def left(self) -> int:
        self._take_back()
        return self._left

    def take(self, number: int) -> Ints:
        """Free slots, held once. Raises PoolFullError."""
        self._take_back()
        if number > self._left:
            raise PoolFullError(f"{number} tokens do not fit into a pool with {self._left} of {self._tokens} left")
        self._left -= number
        slots = self._free[self._left : self._left + number].copy()
        self._holders[slots] = 1
        return slots

    def share(self, slots: Ints) -> None:
        self._holders[slots] += 1

    def release(self, slots: Ints) -> None:
        """Give slots back; those that nobody else holds are free."""
        self._holders[slots] -= 1
        free = slots[self._holders[slots] == 0]
        self._free[self._left : self._left + len(free)] = free
        self._left += len(free)

    def hand_in(self, slots: list[Ints]) -> None:
        """Give the slots back at the next move: safe wherever a garbage collector interrupts."""
        self._handed_in.append(slots)

    def _take_back(self) -> None:
        while self._handed_in:
            self.release(*self._handed_in.popleft())

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put `key`, `value` [T, kv heads, head size] into `slots` [T]; return all of the layer's."""
        if layer not in self._layers:
            self._layers[layer] = self._room_like(key), self._room_like(value)
        keys, values = self._layers[layer]
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)
        return keys, values

    def _room_like(self, one: Tensor) -> Tensor:
        """Zeros: padding reads slots that nobody has written, and what is masked must still be a number."""
        return torch.zeros((self._tokens, *one.shape[1:]), dtype=one.dtype, device=one.device)


class PooledKeyValues:
    """The slots of a context's first `length` tokens."""

    __slots__ = ("__weakref__", "_held", "_pool", "length")

    def __init__(self, pool: TokenPool, slots: Ints = _NO_SLOTS) -> None:
        self._pool = pool
        self._held = [slots]
        self.length = len(slots)
        weakref.finalize(self, pool.hand_in, self._held).atexit = False

    @property
    def slots(self) -> Ints:
        return self._held[0]

    @slots.setter
    def slots(self, slots: Ints) -> None:
        self._held[0] = slots

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

    def withdraw(self, start: int) -> None:
        """Give back what was reserved from `start` on: it was not written."""
        self._cut(start)
        self.length = min(self.length, start)

    def settle(self, length: int) -> None:
        """Declare the first `length` tokens cached."""
        self.length = length
        self._cut(length)

    def _cut(self, length: int) -> None:
        self._pool.release(self.slots[length:])
        self.slots = self.slots[:length]


# ---- attention


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


@dataclass(frozen=True, slots=True, eq=False)
class RowBounds:
    """Where rows begin: `queries`, `keys` [r + 1] int32, from 0 to their sum; the most of each that one row has."""

    queries: Tensor
    keys: Tensor
    widest: int
    longest: int


_ALIGNED = 8
"""Keys of a group are a multiple of this: fused kernels ask it of a mask."""
_LEAST_FILL = 0.6
"""Share of a group's (query, key) pairs that must not be padding."""
MOST_PAIRS = 1 << 25
"""(query, key) pairs of a group of more than one row, which bounds the mask."""


class PooledRows:
    """What every layer needs to know of a batch: rows of m new tokens after `start` cached ones, all in the pool.

    Each call of `attend` is that of the next layer.

    new   [T] slot of each packed token; computed by the uploader of the batch's other integers
    """

    def __init__(self, pool: TokenPool, rows: Sequence[tuple[PooledKeyValues, int]], new: Tensor) -> None:
        self._pool, self._new = pool, new
        self._slots = [cache.slots for cache, _ in rows]
        self._sizes = np.asarray([len(cache.slots) - start for cache, start in rows])
        self._layer = -1

    def attend(self, states: States, options: Options) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
        self._layer += 1
        query, key, value = (state[0].transpose(0, 1) for state in states)
        keys, values = self._pool.write(self._layer, self._new, key, value)
        if serves(query, value, options):
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
            found.append(attend((query[span], key, value), piece.place, options))
        return found[0] if len(found) == 1 else torch.cat(found)

    @cached_property
    def _pieces(self) -> list[RowChunk]:
        return row_chunks(self._slots, self._sizes, self._new.device)

    @cached_property
    def _groups(self) -> tuple[list[_PaddedRows], Tensor]:
        """Rows that are computed together, and [T] where each token's result stands among those of all groups."""
        begins = np.cumsum([0, *self._sizes])
        order = np.zeros(begins[-1], np.int64)
        groups, done = [], 0
        sizes = [(int(size), len(slots)) for size, slots in zip(self._sizes, self._slots, strict=True)]
        for members in _grouped(sizes):
            group = _PaddedRows([self._slots[index] for index in members], self._sizes[members], begins[members])
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


@dataclass(frozen=True, slots=True, eq=False)
class RowChunk:
    """Rows attended together: queries [begin, end) of the packed sequence, and the `slots` of their keys."""

    begin: int
    end: int
    slots: Tensor
    place: RowBounds
    fresh: bool  # no row has a past: the keys are those of the packed sequence itself


def row_chunks(slots: Sequence[Ints], sizes: Ints, device: torch.device) -> list[RowChunk]:
    """Cut rows, each of `sizes` queries that see the keys in `slots`, into pieces of at most MOST_KEYS keys."""
    lengths = np.asarray([len(one) for one in slots])
    cuts = list(_cuts(lengths))
    arrays: list[Ints] = []
    for first, last in cuts:
        arrays += [_begins(sizes[first:last]), _begins(lengths[first:last]), np.concatenate(slots[first:last])]
    there = iter(upload(device, arrays))
    begins, found = _begins(sizes), []
    for first, last in cuts:
        places, known = slice(first, last), (next(there).int(), next(there).int())
        place = RowBounds(*known, int(sizes[places].max()), int(lengths[places].max()))
        fresh = bool((sizes[places] == lengths[places]).all())
        found.append(RowChunk(int(begins[first]), int(begins[last]), next(there), place, fresh))
    return found


def _begins(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _cuts(lengths: Ints) -> Iterator[tuple[int, int]]:
    first = keys = 0
    for index, length in enumerate(lengths):
        if keys and keys + length > MOST_KEYS:
            yield first, index
            first, keys = index, 0
        keys += int(length)
    yield first, len(lengths)


class _PaddedRows:
    """Rows padded to the longest of them: `width` queries, and as many keys as the longest row sees."""

    def __init__(self, slots: Sequence[Ints], sizes: Ints, begins: Ints) -> None:
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
        found = masked(asked, seen, known, mask, options)
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
        small = rows * length <= MOST_KEYS and rows * width * length <= MOST_PAIRS
        if groups and small and pairs + queries * keys >= _LEAST_FILL * rows * width * length:
            groups[-1].append(index)
            pairs, widest, longest = pairs + queries * keys, width, length
        else:
            groups.append([index])
            pairs, widest, longest = queries * keys, queries, keys
    return groups
