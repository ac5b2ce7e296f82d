"""Packed rows: a batch's new tokens lie in one sequence without padding, and each row attends to its own past.

Registered with transformers' attention interface, so that every architecture which uses it runs packed. The batch is
found through a context variable, since not every model hands unknown arguments down to its attention layers, and counts
the layers itself: the n-th call of a forward is that of the n-th layer.

On a CPU rows are attended one by one (`PackedRows`), each with keys and values in buffers of its own (`KeyValues`); a
GPU takes all of them together (`pooled`). A batch's integers go to the device in one transfer that nobody waits for
(`upload`); answers are waited for when they are read (`download`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lingua.engine.score import Arriving
from lingua.prompt import Floats, Ints

States = tuple[Tensor, Tensor, Tensor]
_FIRST_CAPACITY = 256
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


def download(values: Tensor) -> Arriving[Floats]:
    """Copy float32 `values` to the host once all that was asked of their device so far is done."""
    if values.device.type != "cuda":
        there = values.numpy()
        return lambda: there
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> Floats:
        done.synchronize()
        return host.numpy().copy()  # pinned memory is scarce

    return wait


class KeyValues:
    """Cached keys and values of a context's first `length` tokens.

    Per layer one buffer [kv heads, capacity, head size] for keys and one for values. Positions from `length` on are
    scratch space: a probe's keys and values land there and are overwritten by the next request.
    """

    __slots__ = ("_borrowed", "_keys", "_values", "length")

    def __init__(self) -> None:
        self.length = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._borrowed = False

    @property
    def layers(self) -> int:
        return len(self._keys)

    def fork(self) -> KeyValues:
        """The same first `length` tokens; buffers are copied when the fork first writes."""
        other = KeyValues()
        other.length = self.length
        other._keys, other._values = dict(self._keys), dict(self._values)
        other._borrowed = True
        return other

    def extend(self, layer: int, start: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write `key`, `value` [kv heads, m, head size] at position `start`; return all of [0, start + m)."""
        end = start + key.shape[1]
        self._keys[layer] = _write(self._keys.get(layer), start, key, self._borrowed)
        self._values[layer] = _write(self._values.get(layer), start, value, self._borrowed)
        return self._keys[layer][:, :end], self._values[layer][:, :end]

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


@dataclass(frozen=True, slots=True)
class Options:
    """What a layer's attention asks for: the factor of its logits, their cap, how many keys up to its own it sees."""

    scaling: float | None = None
    softcap: float | None = None
    window: int | None = None


def masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Options) -> Tensor:
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
        return masked(query[None], keys[None], values[None], mask, options).transpose(1, 2)


class Attends(Protocol):
    """What the attention layers of a forward find, in the order of the layers."""

    def attend(self, states: States, options: Options) -> Tensor:
        """Query [1, heads, T, d], key and value [1, kv heads, T, d] → [1, T, heads, d]."""


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
    known = Options(options.get("scaling"), options.get("softcap"), options.get("sliding_window"))
    return batch_at_hand.get().attend((query, key, value), known), None
