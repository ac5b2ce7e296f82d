"""The head of a causal model: hidden states → surprisal, in slices, so that logits never take more than a bound.

Logits stay in the model's own dtype; only a few rows at a time are float32 as well. Where torch compiles the reduction
for a GPU none are: one kernel reads the logits and writes a number a row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

HEAD_ELEMENTS = {"cuda": 1 << 26, "cpu": 1 << 22}
"""Logits alive at once, on a CPU so few that they stay in its caches: a product takes as many rows as fit."""
FLOAT_ELEMENTS = {"cuda": 1 << 24, "cpu": 1 << 20}
"""Of these, how many are float32 at once, and again as many log-likelihoods."""
_LEAST_ROWS = 16
_CLOSE = 1e-3

Reduction = Callable[[Tensor, Tensor, float | None], Tensor]


def head_bytes(device: str, vocabulary: int, size: int) -> int:
    """The most that a slice takes, `size` bytes an element of the model's dtype."""
    logits = max(HEAD_ELEMENTS[device], _LEAST_ROWS * vocabulary)
    return logits * size + 2 * max(FLOAT_ELEMENTS[device], vocabulary) * 4


class Head:
    """Applies the output matrix of `model`, the factor of its logits and their soft cap, where it has them."""

    def __init__(self, model: Any) -> None:
        self._matrix = model.get_output_embeddings()
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None) or None
        self._scale = _scale(model.config.get_text_config())
        self._vocabulary = int(self._matrix.weight.shape[0])
        device = self._matrix.weight.device
        kind = device.type if device.type in HEAD_ELEMENTS else "cpu"
        self._rows = max(_LEAST_ROWS, HEAD_ELEMENTS[kind] // self._vocabulary)
        self._few = max(1, FLOAT_ELEMENTS[kind] // self._vocabulary)
        self._plain = _is_plain(self._matrix) and device.type == "cpu"
        self._fused = fused(device, model.dtype) if device.type == "cuda" else None

    def __call__(self, hidden: Tensor, before: Tensor, targets: Tensor) -> Tensor:
        """−ln p of each target [n], float32, predicted by the hidden states [T, d] at `before` [n]."""
        room = self._room(len(targets))
        slices = zip(torch.split(before, self._rows), torch.split(targets, self._rows), strict=True)
        return torch.cat([self._slice(hidden[place], target, room) for place, target in slices])

    def _room(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """Where logits and likelihoods go on a CPU: fresh memory for each slice costs it more than filling it."""
        if self._fused is not None or self._matrix.weight.device.type != "cpu":
            return None
        logits = min(rows, self._rows if self._plain else self._few)
        return torch.empty((logits, self._vocabulary)), torch.empty((min(rows, self._few), self._vocabulary))

    def _slice(self, hidden: Tensor, targets: Tensor, room: tuple[Tensor, Tensor] | None) -> Tensor:
        if self._plain and room is not None:
            logits = torch.mm(hidden, self._matrix.weight.T, out=room[0][: len(hidden)])
        else:
            logits = self._matrix(hidden)
        if self._scale != 1:
            logits.mul_(self._scale)
        if self._fused is not None:
            return self._fused(logits, targets, self._cap)
        parts = zip(torch.split(logits, self._few), torch.split(targets, self._few), strict=True)
        return torch.cat([self._few_rows(part, target, room) for part, target in parts])

    def _few_rows(self, logits: Tensor, targets: Tensor, room: tuple[Tensor, Tensor] | None) -> Tensor:
        exact, likelihood = logits, None
        if logits.dtype != torch.float32:
            exact = logits.float() if room is None else room[0][: len(logits)].copy_(logits)
        if self._cap:
            exact = exact.div_(self._cap).tanh_().mul_(self._cap)
        if room is not None:
            likelihood = torch.log_softmax(exact, -1, out=room[1][: len(logits)])
        else:
            likelihood = torch.log_softmax(exact, -1)
        return -likelihood.gather(1, targets[:, None])[:, 0]


def _scale(config: Any) -> float:
    """What logits are multiplied by: `logit_scale` in Cohere's models, one over `logits_scaling` in Granite's."""
    return float(getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1))


def surprisal(logits: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    """−ln p of each target [n] by logits [n, vocabulary], float32; compiled, it makes no float32 copy of them."""
    exact = logits.float()
    if cap is not None:
        exact = cap * torch.tanh(exact / cap)
    return torch.logsumexp(exact, -1) - exact.gather(1, targets[:, None])[:, 0]


def fused(device: torch.device, dtype: torch.dtype) -> Reduction | None:
    """`surprisal` compiled by torch, if it can be here and says the same; None: a few rows at a time do as well."""
    try:
        with torch.inference_mode(), torch._inductor.config.patch(compile_threads=1):
            run: Reduction = torch.compile(surprisal, dynamic=True, fullgraph=True)
            logits = torch.linspace(-20, 20, 7 * 1_000, device=device).view(7, -1).to(dtype)
            targets = torch.arange(7, device=device) * 100
            close = torch.allclose(run(logits, targets, None), surprisal(logits, targets, None), atol=_CLOSE)
    except Exception as error:  # whatever torch's compiler meets: no Triton, no C compiler, no headers
        log.info("the head's reduction is not compiled: %s", str(error).strip().splitlines()[:1])
        return None
    return run if close else None


def _is_plain(head: Any) -> bool:
    """Whether the head is one float32 matrix and nothing else."""
    return type(head) is nn.Linear and head.bias is None and head.weight.dtype == torch.float32
