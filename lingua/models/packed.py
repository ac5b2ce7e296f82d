"""Packed rows: a batch's new tokens lie in one sequence without padding, and each row attends to its own past.

Registered with transformers' attention interface, so that every architecture which uses it runs packed. The batch is
found through a context variable, since not every model hands unknown arguments down to its attention layers, and counts
the layers itself: the n-th call of a forward is that of the n-th layer.

On a CPU rows are attended one by one (`PackedRows`). On a GPU (`PooledRows`) the slots that a batch writes and reads
are computed once for all layers, and a layer takes a handful of kernels however many rows there are: one writes the new
keys, one gathers what the rows see, one attends without padding. Where that kernel cannot serve, rows of like lengths
are gathered and attended in groups.

A batch's integers go to the device in one transfer that nobody waits for (`upload`); answers are waited for when they
are read (`download`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from lingua.models import attention
from lingua.models.attention import Options, States
from lingua.models.keys_values import Ints, PooledKeyValues, Slots, TokenPool

PACKED = "lingua_packed"


def upload(device: torch.device, arrays: Sequence[Ints]) -> list[Tensor]:
    """The arrays as int64 tensors on `device`, views of one buffer.

    The host's side may be forgotten at once: torch hands out pinned memory again only when its copies are done.
    """
    host = torch.empty(sum(one.size for one in arrays), dtype=torch.int64, pin_memory=device.type == "cuda")
    np.concatenate([one.reshape(-1) for one in arrays], out=host.numpy())
    there = host.to(device, non_blocking=True)
    parts = torch.split(there, [one.size for one in arrays])
    return [part.view(one.shape) for part, one in zip(parts, arrays, strict=True)]


Arriving = Callable[[], npt.NDArray[np.float32]]
"""Waits for the values and gives them."""


def download(values: Tensor) -> Arriving:
    """Copy float32 `values` to the host once all that was asked of their device so far is done."""
    if values.device.type != "cuda":
        there = values.numpy()
        return lambda: there
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> npt.NDArray[np.float32]:
        done.synchronize()
        return host.numpy().copy()  # pinned memory is scarce

    return wait


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


class PackedRows:
    """A batch whose rows are attended one by one, each with its own cache. Each call is that of the next layer."""

    def __init__(self, rows: Sequence[PackedRow]) -> None:
        self._rows = rows
        self._layer = -1

    def attend(self, states: States, options: Options) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
        self._layer += 1
        return torch.cat([self._attend(states, row, options) for row in self._rows], dim=1)

    def _attend(self, states: States, row: PackedRow, options: Options) -> Tensor:
        """One row's attention [1, m, heads, d]."""
        query, keys, values = (state[0, :, row.begin : row.end] for state in states)
        if row.cache is not None:
            keys, values = row.cache.extend(self._layer, row.start, keys, values)
        mask = row.mask(options.window, query.device)
        return attention.masked(query[None], keys[None], values[None], mask, options).transpose(1, 2)


class Attends(Protocol):
    """What the attention layers of a forward find, in the order of the layers."""

    def attend(self, states: States, options: Options) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""
        ...


@dataclass(frozen=True, slots=True)
class Noting:
    """Attends as `inner` does and notes what each layer asked for."""

    inner: Attends
    noted: list[Options]

    def attend(self, states: States, options: Options) -> Tensor:
        self.noted.append(options)
        return self.inner.attend(states, options)


batch_at_hand: ContextVar[Attends] = ContextVar("batch_at_hand")


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """In transformers' form: query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d].

    Raises ValueError for what is not computed here: attention sinks.
    """
    if options.get("s_aux") is not None:
        raise ValueError("attention sinks are not computed")
    known = (options.get("scaling"), options.get("softcap"), options.get("sliding_window"))
    if torch.compiler.is_compiling():
        return _operator(query, key, value, *known), None
    return _attended(query, key, value, *known), None


def _attended(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, softcap: float | None, window: int | None
) -> Tensor:
    found = batch_at_hand.get().attend((query, key, value), Options(scaling, softcap, window))
    return filled(found, query.shape[2])


def filled(found: Tensor, tokens: int) -> Tensor:
    """Attention [1, T, heads, d] with zeros for what fills a compiled batch up to so many `tokens`."""
    return found if found.shape[1] == tokens else F.pad(found, (0, 0, 0, 0, 0, tokens - found.shape[1]))


# Compiled decoders call it as one opaque operator. It is told nothing of its layer, which the batch counts: layers that
# differ in nothing else share what was compiled.
_operator = torch.library.custom_op("lingua::packed_attention", _attended, mutates_args=())


@_operator.register_fake
def _shape(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, softcap: float | None, window: int | None
) -> Tensor:
    return query.new_empty((1, query.shape[2], query.shape[1], value.shape[3]))


AttentionInterface.register(PACKED, packed_attention)


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
        query, key, value = (state[0, :, : self._new.shape[0]].transpose(0, 1) for state in states)
        keys, values = self._pool.write(self._layer, self._new, key, value)
        if attention.serves(query, value, options):
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
            found.append(attention.attend((query[span], key, value), piece.place, options))
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
        for members in _grouped(
            [(int(size), len(slots)) for size, slots in zip(self._sizes, self._slots, strict=True)]
        ):
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
    """Rows attended together: queries [begin, end) of the packed sequence, and the `slots` of their keys.

    fresh   no row has a past: the keys are those of the packed sequence itself
    """

    begin: int
    end: int
    slots: Tensor
    place: attention.RowBounds
    fresh: bool


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
        place = attention.RowBounds(*known, int(sizes[places].max()), int(lengths[places].max()))
        fresh = bool((sizes[places] == lengths[places]).all())
        found.append(RowChunk(int(begins[first]), int(begins[last]), next(there), place, fresh))
    return found


def _begins(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _cuts(lengths: Ints) -> Iterator[tuple[int, int]]:
    first = keys = 0
    for index, length in enumerate(lengths):
        if keys and keys + length > attention.MOST_KEYS:
            yield first, index
            first, keys = index, 0
        keys += int(length)
    yield first, len(lengths)


class _PaddedRows:
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
        found = attention.masked(asked, seen, known, mask, options)
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
        small = rows * length <= attention.MOST_KEYS and rows * width * length <= MOST_PAIRS
        if groups and small and pairs + queries * keys >= _LEAST_FILL * rows * width * length:
            groups[-1].append(index)
            pairs, widest, longest = pairs + queries * keys, width, length
        else:
            groups.append([index])
            pairs, widest, longest = queries * keys, queries, keys
    return groups
