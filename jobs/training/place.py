"""`Place`: which of several equal workers one is, and how they add up what each has; knows no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Worker `rank` of `world`, which computes on `device`. With more than one, torch.distributed must be set up."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the worker that writes what all of them made."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This worker's part: every `world`-th."""
        return items[self.rank :: self.world]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, which must all call this with the same shapes."""
        if self.world > 1:
            waiting = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for handle in waiting:
                handle.wait()

    def agree(self, number: int) -> int:
        """The leading worker's number, to all."""
        told = torch.tensor(number if self.leads else 0, device=self.device)
        self.sum([told])
        return int(told)
