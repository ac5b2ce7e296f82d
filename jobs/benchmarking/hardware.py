"""What the device is and gives: memory, time in kernels, a large matrix product, a copy.

`attainable` is the roofline's time for the batches that our engine ran: each takes at least its operations at the
matrix product's speed, and at least as long as the weights need to pass through the memory once.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from jobs.peer_main import peak_resident, reset_peak

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "numpy")
"""Whose versions a report tells."""
_MATRIX = {"cuda": 8192, "cpu": 1024}
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
_REPEATS = 5


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


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak()


def peak_bytes(device: torch.device) -> int:
    """The most bytes since `forget_peak`, the model included: allocated on a CUDA device, resident on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_resident()


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """What the commands beside `jobs.benchmark` all take."""
    found = argparse.ArgumentParser(prog=f"python -m jobs.benchmarking.{name}", description=about)
    found.add_argument("--model", default="shape:smollm2-135m", help="shape:NAME, or a model as in jobs.benchmark")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    found.add_argument("--dtype", default="auto", help="float32, bfloat16, float16 or auto")
    found.add_argument("--output", type=Path, required=True, help=f"folder for {name}.json")
    return found


# ---- how long a CUDA device ran kernels


def kernel_seconds(work: Callable[[], object]) -> float:
    """Seconds in which at least one kernel or copy ran while `work` did.

    The profiler slows the host, not the kernels: set them against the wall time of a run without it.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
    return busy_seconds(profiler)


def busy_seconds(profiler: profile) -> float:
    """Seconds of a profile in which at least one kernel or copy ran; what merely names a stretch of time is none."""
    found: Any = profiler
    events = (one for one in found.events() or () if one.device_type.name == "CUDA" and not one.is_user_annotation)
    return covered((event.time_range.start, event.time_range.end) for event in events) / 1e6


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


# ---- the roofline


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch's work: tokens computed, tokens scored, and (query, key) pairs of attention."""

    tokens: int
    scored: int
    pairs: int


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
        config, embedding, output = model.config, model.get_input_embeddings().weight, model.get_output_embeddings()
        total = sum(parameter.numel() for parameter in model.parameters())
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
    side = _MATRIX.get(device.type, 2048)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(_COPY_BYTES.get(device.type, 1 << 28), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    product = _best(lambda: left @ right, device)
    copy = _best(lambda: target.copy_(source), device)
    return Roofline(2 * side**3 / product, 2 * source.numel() / copy)


def _best(work: Callable[[], object], device: torch.device) -> float:
    work()
    return min(timed(work, device) for _ in range(_REPEATS))


def timed(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started
