"""Cached keys and values of contexts: in buffers of their own on a CPU, in slots of one preallocated pool on a GPU.

`KeyValues` grows its buffers by doubling; a fork borrows them until it writes. In a `TokenPool` nothing is copied,
moved or reallocated: a context is a list of slots, one a token, held on the host. A fork shares them and takes new ones
to write. The slots of a context that nobody holds any more are handed in when Python forgets it, which may be in the
middle of anything, and are free at the pool's next move.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lingua.engine.score import PoolFullError

Ints = npt.NDArray[np.int64]
_FIRST_CAPACITY = 256


class KeyValues:
    """Cached keys and values of a context's first `length` tokens.

    Per layer one buffer [kv heads, capacity, head size] for keys and one for values. Positions from `length` on are
    scratch space: a probe's keys and values land there and are overwritten by the next request.
    """

    __slots__ = ("_borrowed", "_keys", "_values", "length")

    def __init__(self) -> None:
        self.length = 0
        self._keys: list[Tensor | None] = []
        self._values: list[Tensor | None] = []
        self._borrowed = False

    @property
    def layers(self) -> int:
        """How many layers have written."""
        return len(self._keys)

    def fork(self) -> KeyValues:
        """The same first `length` tokens; buffers are copied when the fork first writes."""
        other = KeyValues()
        other.length = self.length
        other._keys, other._values = list(self._keys), list(self._values)
        other._borrowed = True
        return other

    def extend(self, layer: int, start: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write `key`, `value` [kv heads, m, head size] at position `start`; return all of [0, start + m)."""
        end = start + key.shape[1]
        while len(self._keys) <= layer:
            self._keys.append(None)
            self._values.append(None)
        self._keys[layer] = _write(self._keys[layer], start, key, self._borrowed)
        self._values[layer] = _write(self._values[layer], start, value, self._borrowed)
        return self._keys[layer][:, :end], self._values[layer][:, :end]  # type: ignore[index]

    def settle(self, length: int) -> None:
        """Declare the first `length` tokens cached, after all layers have written."""
        self.length, self._borrowed = length, False


def _write(buffer: Tensor | None, start: int, new: Tensor, borrowed: bool) -> Tensor:
    end = start + new.shape[1]
    if buffer is None or borrowed or buffer.shape[1] < end:
        capacity = max(_FIRST_CAPACITY, end if buffer is None else end + start)
        grown = torch.empty((new.shape[0], capacity, new.shape[2]), dtype=new.dtype, device=new.device)
        if buffer is not None:
            grown[:, :start] = buffer[:, :start]
        buffer = grown
    buffer[:, start:end] = new
    return buffer


Slots = Ints
_NO_SLOTS: Slots = np.zeros(0, np.int64)


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
        self._handed_in: deque[list[Slots]] = deque()
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        for layer, (keys, values) in (like._layers if like is not None else {}).items():
            self._layers[layer] = self._room_like(keys), self._room_like(values)

    @property
    def layers(self) -> int:
        """How many layers have written."""
        return len(self._layers)

    @property
    def tokens(self) -> int:
        """Slots, free or not."""
        return self._tokens

    @property
    def left(self) -> int:
        self._take_back()
        return self._left

    def take(self, number: int) -> Slots:
        """Free slots, held once. Raises PoolFullError."""
        self._take_back()
        if number > self._left:
            raise PoolFullError(f"{number} tokens do not fit into a pool with {self._left} of {self._tokens} left")
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

    def hand_in(self, slots: list[Slots]) -> None:
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

    def __init__(self, pool: TokenPool, slots: Slots = _NO_SLOTS) -> None:
        self._pool = pool
        self._held = [slots]
        self.length = len(slots)
        weakref.finalize(self, pool.hand_in, self._held).atexit = False

    @property
    def slots(self) -> Slots:
        return self._held[0]

    @slots.setter
    def slots(self, slots: Slots) -> None:
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
