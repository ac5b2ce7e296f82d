"""Work for workers of a real Ray that goes wrong. Importable by them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import AbortRun
from jobs.training.align_settings import AlignConfig
from jobs.training.place import Place

STEP = 3


def train(config: AlignConfig, place: Place) -> None:
    """Train; in step `STEP` the last worker's process ends, the first time."""
    from jobs.training import align_work
    from jobs.training.optimize import Optimizer

    learn = Optimizer.step

    def step(self: Optimizer, number: int, steps: int, packs: Sequence[Any]) -> float:
        mark = Path(config.output) / "died"
        if number == STEP and place.rank == place.world - 1 and not mark.exists():
            mark.touch()
            os._exit(1)
        return learn(self, number, steps, packs)

    Optimizer.step = step  # type: ignore[method-assign]
    align_work.train(config, place)


def complain(config: AlignConfig, place: Place) -> None:
    """What no second attempt would change."""
    with (Path(config.output) / "attempts").open("a") as file:
        file.write("1")
    raise AbortRun("the loss is no number")
