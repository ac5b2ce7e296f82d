"""What was computed once and may be asked for again: values by key, the latest used, bounded in size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
V = TypeVar("V")


class Store(Generic[V]):
    """Values by key. Holds sizes of `room` altogether; what was used least recently goes first."""

    def __init__(self, room: int) -> None:
        self._capacity = self._room = room
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Hold `value`, unless it is larger than all the room; one that is held under this key already stays."""
        if key in self._values or size > self._capacity:
            return
        self._values[key] = value, size
        self._room -= size
        while self._room < 0:
            self.drop(next(iter(self._values)))

    def drop(self, key: Hashable) -> None:
        """Forget a key, if it is known."""
        if key in self._values:
            self._room += self._values.pop(key)[1]

    def clear(self) -> None:
        for key in list(self._values):
            self.drop(key)


ENTRY = 128
"""Numbers that a key and what is kept for it weigh besides the array itself."""


class Memory:
    """Float32 arrays by key: at most `values` numbers, `ENTRY` for each key; with 0 nothing is remembered or shared.

    Arrays are copied in and handed out read-only, as all who ask share them.
    """

    def __init__(self, values: int = 1 << 24) -> None:
        self.enabled = values > 0
        self._arrays: Store[Array] = Store(values)

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> Array | None:
        return self._arrays.get(key)

    def put(self, key: Hashable, array: Array) -> None:
        array = array.copy()
        array.flags.writeable = False
        self._arrays.put(key, array, array.size + ENTRY)


class Digest:
    """A running digest of token ids: 128 bits, so that two texts never share one. `count` ids are in it."""

    __slots__ = ("_hash", "count")

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.count = 0
        self.after(ids)

    def after(self, ids: Sequence[int]) -> bytes:
        """Take in more ids; the digest of all."""
        self._hash.update(np.asarray(ids, np.int64).tobytes())
        self.count += len(ids)
        return self._hash.digest()


def digest_of(ids: Sequence[int]) -> bytes:
    """A key for token ids."""
    return Digest().after(ids)
