"""Encoders without padding: windows lie one after the other in one sequence, and attention keeps to its own window.

Registered with transformers' attention interface. A model is tried out first: one whose attention does not go through
the interface, or sees a sliding part of the text only, is read padded.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from lingua.models import attention
from lingua.models.transfer import upload

ROWS = "lingua_rows"


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Where the windows of a sequence begin and end, for the host and for the kernel."""

    spans: Sequence[tuple[int, int]]
    place: attention.RowBounds


_windows: ContextVar[Windows] = ContextVar("windows")


def windows_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """In transformers' form: query, key and value [1, heads, T, d] → [1, T, heads, d]. Raises ValueError."""
    for name in ("sliding_window", "s_aux", "softcap"):
        if options.get(name) is not None:
            raise ValueError(f"{name} is not computed")
    windows, asked = _windows.get(), attention.Options(options.get("scaling"))
    if attention.serves(query, value, asked):
        states = (query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1))
        return attention.attend(states, windows.place, asked, causal=False)[None], None
    if query.is_cuda:
        raise ValueError("no kernel for these states")
    parts = [_attend([state[:, :, a:b] for state in (query, key, value)], asked) for a, b in windows.spans]
    return torch.cat(parts, 2).transpose(1, 2), None


def _attend(states: Sequence[Tensor], options: attention.Options) -> Tensor:
    query, key, value = states
    return F.scaled_dot_product_attention(query, key, value, scale=options.scaling)


AttentionInterface.register(ROWS, windows_attention)


class Unpadded:
    """Calls `model` on windows packed into one sequence."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._first = first_position(model)
        self._typed = "token_type_ids" in inspect.signature(model.forward).parameters

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Any:
        """The model's output for the ids of all windows as one row."""
        sizes = np.asarray([len(one) for one in sequences])
        ends = np.cumsum(sizes)
        begins = np.concatenate([np.zeros(1, np.int64), ends])
        ids = np.concatenate([np.asarray(one, np.int64) for one in sequences])
        places = np.arange(len(ids)) - np.repeat(begins[:-1], sizes) + self._first
        there, where, cuts = upload(self._model.device, [ids, places, begins])
        longest = int(sizes.max())
        spans = list(zip(begins.tolist(), ends.tolist(), strict=False))
        types = {"token_type_ids": torch.zeros_like(there)[None]} if self._typed else {}
        token = _windows.set(Windows(spans, attention.RowBounds(cuts.int(), cuts.int(), longest, longest)))
        try:
            return self._model(input_ids=there[None], position_ids=where[None], **types)
        finally:
            _windows.reset(token)


def first_position(model: Any) -> int:
    """The position of a window's first token: RoBERTa's family counts from behind the padding index."""
    found = position_embeddings(model)
    return 0 if found is None or found.padding_idx is None else found.padding_idx + 1


def position_embeddings(model: Any) -> nn.Embedding | None:
    """The model's learned positions, if it has any."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None


def unpadded(model: Any, window: int, ids: Sequence[int]) -> Unpadded | None:
    """The model without padding, if it then says what it says of each window alone; else it stays as it was.

    `ids` are some tokens, of which windows are made that together are longer than the model's own `window`.
    """
    half = attention.kernel() is not None and model.dtype in (torch.bfloat16, torch.float16)
    if model.device.type == "cuda" and not half:
        return None
    many = [(list(ids) * window)[first : first + size] for first, size in ((0, window), (1, 9), (2, 2))]
    before = model.config._attn_implementation
    with torch.inference_mode():
        alone = [_values(model(input_ids=torch.tensor([one], device=model.device))) for one in many]
        try:
            model.set_attn_implementation(ROWS)
            packed = Unpadded(model)
            close = _close(_values(packed(many)), torch.cat(alone, 1), 1e-4 if model.dtype == torch.float32 else 0.02)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, LookupError):
            close = False
    if not close:
        model.set_attn_implementation(before)
    return packed if close else None


def _values(output: Any) -> Tensor:
    found: Tensor = output[0]
    return found.float()


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and float((one - other).abs().mean()) < tolerance * float(other.abs().mean()) + 1e-6
