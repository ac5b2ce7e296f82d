"""What the device is and gives: memory, a large matrix product, the plain forward pass."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarking.subject import Subject
from jobs.peer_main import peak_resident, reset_peak

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "numpy")
_MATRIX = {"cuda": 8192, "cpu": 1024}
_REPEATS = 5
_LOGITS = 1 << 28
"""Elements of the logits that the plain forward may make at once."""


def facts(device: torch.device) -> dict[str, Any]:
    """Name of the device, and what of it is used."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"type": device.type, "name": _processor(), "threads": torch.get_num_threads()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "checkout"
    return found


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Start a new measurement of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak()


def peak_bytes(device: torch.device) -> int:
    """The most bytes since `forget_peak`, the model included: allocated on a CUDA device, resident on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_resident()


# ---- what the device could do


@dataclass(frozen=True, slots=True)
class Load:
    """What a scorer computed: tokens, those of them that were scored, and (query, key) pairs of attention."""

    tokens: int = 0
    scored: int = 0
    pairs: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.tokens + other.tokens, self.scored + other.scored, self.pairs + other.pairs)

    def operations(self, model: Any) -> int:
        """Two per parameter and token, the head's where a token is scored; per attended pair and channel four."""
        config, embedding, output = model.config, model.get_input_embeddings().weight, model.get_output_embeddings()
        head = 0 if output is None else output.weight.numel()
        tied = output is not None and output.weight is embedding
        total = sum(parameter.numel() for parameter in model.parameters())
        body = total - embedding.numel() - (0 if tied else head)
        width = config.num_hidden_layers * config.hidden_size
        return int(2 * body * self.tokens + 2 * head * self.scored + 4 * width * self.pairs)


def matrix_product(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product: the best of a few."""
    side = _MATRIX.get(device.type, 2048)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [_timed(lambda: left @ right, device) for _ in range(1 + _REPEATS)]
    return 2 * side**3 / min(times[1:])


def _timed(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def plain_forward(subject: Subject, tokens: int, length: int, batch_tokens: int) -> float:
    """Tokens per second of the untouched model: about `tokens` in rows of `length`, `batch_tokens` at a time."""
    length = max(1, min(length, subject.window - 2, tokens))
    rows = max(1, min(batch_tokens // length, _LOGITS // (length * subject.model.config.vocab_size), tokens // length))
    ids = torch.randint(5, len(subject.tokenizer), (rows, length), device=subject.device)
    passes = max(1, round(tokens / ids.numel()))
    uncached = {} if subject.is_encoder else {"use_cache": False}

    def read() -> None:
        for _ in range(passes):
            model(input_ids=ids, **uncached)

    with subject.plain() as model, torch.inference_mode():
        model(input_ids=ids[:, : min(length, 64)])
        return passes * ids.numel() / _timed(read, subject.device)
