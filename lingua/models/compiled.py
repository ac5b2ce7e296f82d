"""Whether torch can compile here, asked before a model loads; what is compiled is a packed scorer's decoder (`causal`).

The whole decoder is one graph. Lengths are symbols, so that it serves batches of any size. Attention is an operator of
our own in it (`attention`), as a batch's rows are found through the host.
"""

from __future__ import annotations

import torch

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
