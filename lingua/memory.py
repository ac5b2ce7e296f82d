"""What was computed once and may be asked for again: arrays by key, the latest used, bounded in size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Memory:
    """Float32 arrays by key. Holds at most `values` numbers; what was used least recently goes first.

    Arrays are copied in and handed out read-only, as all who ask share them.
    """

    def __init__(self, values: int = 1 << 23) -> None:
        self._room = values
        self._arrays: OrderedDict[Hashable, Array] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> Array | None:
        if key in self._arrays:
            self._arrays.move_to_end(key)
        return self._arrays.get(key)

    def put(self, key: Hashable, array: Array) -> None:
        if key in self._arrays:
            return
        array = array.copy()
        array.flags.writeable = False
        self._arrays[key] = array
        self._room -= array.size
        while self._room < 0:
            _, forgotten = self._arrays.popitem(last=False)
            self._room += forgotten.size


def digest_of(ids: Sequence[int]) -> bytes:
    """A key for token ids: 128 bits, so that two texts never share one."""
    return hashlib.blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=16).digest()
