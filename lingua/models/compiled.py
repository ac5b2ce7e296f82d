"""Decoder layers compiled by torch: fewer and larger kernels for everything around attention.

Lengths are symbols, so that one compilation serves batches of any size, and all layers of a kind share it. Attention
stays as it is: a batch's rows are found through the host.
"""

from __future__ import annotations

import torch
from torch import nn

from lingua.errors import ModelError


def require_compiler(device: torch.device) -> None:
    """Compile a sum, as only that tells whether it works. Raises ModelError with the cause, and what to do."""

    def doubled(one: torch.Tensor) -> torch.Tensor:
        return one * 2 + 1

    try:
        torch.compile(doubled, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:  # whatever torch's compiler meets: no C++ compiler, no Triton, no headers
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"compile: torch cannot compile for {device.type} here ({cause[0]}); it needs a C++ compiler, Python's "
            "headers and, on a GPU, Triton; install them or leave compile off"
        ) from error


def compile_layers(decoder: nn.Module, layers: int, backend: str = "inductor") -> None:
    """Compile each of the decoder's `layers` layers, in place. Raises ModelError for a decoder without such a list."""
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            for layer in module:
                layer.compile(dynamic=True, backend=backend)
            return
    raise ModelError(f"compile: {type(decoder).__name__} has no list of its {layers} layers; leave compile off")
