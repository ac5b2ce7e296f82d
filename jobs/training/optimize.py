"""One optimizer step over packs that are spread over workers, and the learning rate of each step.

The loss is the mean over all response tokens of the step, whoever reads them, so it does not depend on the number of
workers. Gradients are added up here and not by DistributedDataParallel: workers may have different numbers of packs.
What is random in a step depends on the seed and the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cluster.errors import AbortRun
from jobs.training.align_settings import AlignConfig
from jobs.training.packing import Tokens
from jobs.training.place import Place
from jobs.training.student import Student
from jobs.training.surprisal import Reader


class Optimizer:
    """AdamW on a student's weights."""

    def __init__(self, student: Student, reader: Reader, config: AlignConfig, place: Place) -> None:
        self._weights = [weight for _, weight in student.trained()]
        decayed = [weight for weight in self._weights if weight.ndim > 1]
        others = [weight for weight in self._weights if weight.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW(groups, lr=config.peak, weight_decay=config.weight_decay)
        self._reader, self._config, self._place = reader, config, place

    def step(self, number: int, steps: int, packs: Sequence[Sequence[Tokens]]) -> float:
        """Learn from the packs of step `number` of `steps`; the loss in nats per token before it.

        Raises AbortRun when the loss is no number.
        """
        torch.manual_seed(hash((self._config.seed, number, self._place.rank)))
        total = sum(example.predicted for pack in packs for example in pack)
        self._adam.zero_grad(set_to_none=False)
        loss = torch.zeros((), device=self._place.device)
        for pack in self._place.share(packs):
            part = self._reader.surprisal(pack).sum() / total
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        self._place.sum([loss, *self._gradients()])
        if not math.isfinite(loss):
            raise AbortRun(f"the loss of step {number} is {float(loss)}; lower learning_rate (now {self._config.peak})")
        torch.nn.utils.clip_grad_norm_(self._weights, self._config.clip)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(number, steps, self._config)
        self._adam.step()
        return float(loss)

    def _gradients(self) -> list[torch.Tensor]:
        """Of all weights; zeros where a worker had nothing to read."""
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self._weights if weight.grad is not None]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return self._adam.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a `state`."""
        self._adam.load_state_dict(state)


def learning_rate(number: int, steps: int, config: AlignConfig) -> float:
    """Of step `number` (from 0): a straight rise over the warm-up, then the schedule, which ends near 0."""
    rising = math.ceil(config.warmup * steps)
    if number < rising:
        return config.peak * (number + 1) / (rising + 1)
    done = (number - rising) / max(1, steps - rising)
    shape = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
    return config.peak * shape[config.schedule]
