"""What the hardware gives, measured in the same run: a large matrix product, a device copy, the plain forward pass.

`attainable` is the roofline's time for the batches that our engine ran: each takes at least its operations at the
matrix product's speed, and at least as long as the weights need to pass through the memory once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarking.stages import Batch
from jobs.benchmarking.subject import Subject

_MATRIX = {"cuda": 8192, "cpu": 1024}
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
_REPEATS = 5
_LOGITS = 1 << 28
"""Elements of the logits that the plain forward may make at once."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Floating-point operations per second of a matrix product in the model's dtype, bytes per second of a copy."""

    operations: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Size:
    """What a token costs: `body` parameters always, `head` where it is scored; `width` channels per attended pair."""

    body: int
    head: int
    width: int
    bytes: int

    @classmethod
    def of(cls, model: Any) -> Size:
        config = model.config
        total = sum(parameter.numel() for parameter in model.parameters())
        embedding = model.get_input_embeddings().weight
        output = model.get_output_embeddings()
        head = 0 if output is None else output.weight.numel()
        tied = output is not None and output.weight is embedding
        body = total - embedding.numel() - (0 if tied else head)
        return cls(body, head, config.num_hidden_layers * config.hidden_size, (body + head) * embedding.element_size())

    def operations(self, batch: Batch) -> int:
        """Two per parameter and token; per attended pair two for the scores and two for the values, per channel."""
        return 2 * self.body * batch.tokens + 2 * self.head * batch.scored + 4 * self.width * batch.pairs


def attainable(batches: Sequence[Batch], size: Size, roof: Roofline) -> float:
    """Seconds that the batches need at the least."""
    return sum(max(size.operations(batch) / roof.operations, size.bytes / roof.bytes) for batch in batches)


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """The best of a few large matrix products and copies."""
    side = _MATRIX.get(device.type, 2048)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(_COPY_BYTES.get(device.type, 1 << 28), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    product = _best(lambda: left @ right, device)
    copy = _best(lambda: target.copy_(source), device)
    return Roofline(2 * side**3 / product, 2 * source.numel() / copy)


def _best(work: Callable[[], object], device: torch.device) -> float:
    work()
    times = []
    for _ in range(_REPEATS):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_forward(subject: Subject, tokens: int, length: int, batch_tokens: int) -> float:
    """Tokens per second of the untouched model: about `tokens` in rows of `length`, `batch_tokens` at a time."""
    length = max(1, min(length, subject.window - 2, tokens))
    rows = max(1, min(batch_tokens // length, _LOGITS // (length * subject.model.config.vocab_size), tokens // length))
    ids = torch.randint(5, len(subject.tokenizer), (rows, length), device=subject.device)
    passes = max(1, round(tokens / ids.numel()))
    with subject.plain() as model, torch.inference_mode():
        model(input_ids=ids[:, : min(length, 64)])
        synchronize(subject.device)
        started = time.perf_counter()
        for _ in range(passes):
            model(**({"input_ids": ids} if subject.is_encoder else {"input_ids": ids, "use_cache": False}))
        synchronize(subject.device)
        return passes * ids.numel() / (time.perf_counter() - started)
