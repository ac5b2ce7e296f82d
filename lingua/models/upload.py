"""Integers of a batch on their way to the device: one pinned buffer, one transfer, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence

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
