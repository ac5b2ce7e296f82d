"""Values on their way from the device: copied when they are computed, while the host goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Arriving = Callable[[], npt.NDArray[np.float32]]
"""Waits for the values and gives them."""


def download(values: Tensor) -> Arriving:
    """Copy float32 `values` to the host once all that was asked of their device so far is done."""
    if values.device.type != "cuda":
        there = values.numpy()
        return lambda: there
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> npt.NDArray[np.float32]:
        done.synchronize()
        return host.numpy().copy()  # pinned memory is scarce

    return wait
