"""Peak memory of a piece of work: allocated on a CUDA device, resident on a CPU."""

from __future__ import annotations

import torch

from jobs.benchmarking.peer_main import peak_resident, reset_peak


def forget_peak(device: torch.device) -> None:
    """Start a new measurement."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak()


def peak_bytes(device: torch.device) -> int:
    """The most bytes held since `forget_peak`, the model included."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_resident()
