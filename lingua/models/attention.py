"""Attention over packed rows: a batch's new tokens lie in one sequence without padding, each row reads its own past.

Registered with transformers' attention interface, so that every architecture which uses it runs packed. The batch at
hand is found through a context variable, since not every model hands unknown arguments down to its attention layers.
It counts the layers itself: the n-th call of a forward is that of the n-th layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from lingua.models.batch import States, attention
from lingua.models.varlen import Options

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
        return attention(query[None], keys[None], values[None], mask, options).transpose(1, 2)


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
