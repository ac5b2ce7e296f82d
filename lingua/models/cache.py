"""Keys and values of one context, in buffers that grow by doubling; a fork borrows them until it writes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_FIRST_CAPACITY = 256


class KeyValues:
    """Cached keys and values of a context's first `length` tokens, and until the next request of `probed` more.

    Per layer one buffer [kv heads, capacity, head size] for keys and one for values. Positions from `length` on are
    scratch space: a probe's keys and values land there and are overwritten by the next request.
    """

    __slots__ = ("_borrowed", "_keys", "_values", "length", "probed")

    def __init__(self) -> None:
        self.length = self.probed = 0
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

    def settle(self, length: int, probed: int = 0) -> None:
        """Declare the first `length` tokens cached, and `probed` more for now, after all layers have written."""
        self.length, self.probed = length, probed
        self._borrowed = False

    @torch.inference_mode()
    def keep(self, places: Sequence[int]) -> None:
        """Append those of the `probed` tokens as they were computed; the others are gone."""
        begin, end = self.length, self.length + len(places)
        for buffer in (*self._keys, *self._values):
            if buffer is not None and places:
                index = torch.tensor(places, device=buffer.device) + begin
                buffer[:, begin:end] = buffer[:, index]
        self.length, self.probed = end, 0


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
