"""Between host and device without waiting: a batch's integers in one pinned transfer, and answers copied when ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]


def upload(device: torch.device, arrays: Sequence[Ints]) -> list[Tensor]:
    """The arrays as int64 tensors on `device`, views of one buffer.

    The host's side may be forgotten at once: torch hands out pinned memory again only when its copies are done.
    """
    host = torch.empty(sum(one.size for one in arrays), dtype=torch.int64, pin_memory=device.type == "cuda")
    np.concatenate([one.reshape(-1) for one in arrays], out=host.numpy())
    there = host.to(device, non_blocking=True)
    parts = torch.split(there, [one.size for one in arrays])
    return [part.view(one.shape) for part, one in zip(parts, arrays, strict=True)]


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
