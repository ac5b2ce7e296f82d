"""The training of the student: cross-entropy of each token's keep probability with its word's target, AdamW.

LLMLingua-2 (arXiv 2403.12968, section 3.3), except that targets may lie between 0 and 1. Everything that happens in a
step follows from its number and the settings (windows, learning rate, dropout), so a run that goes on from a checkpoint
does what the uninterrupted one does. Of several workers each takes every n-th window of a batch; gradients are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cluster.errors import AbortRun
from jobs.training.checkpoints import Checkpoints
from jobs.training.distill_examples import Window, batches
from jobs.training.distill_settings import DistillConfig
from jobs.training.distill_student import Student
from jobs.training.place import Place
from jobs.training.progress import Progress

_RECENT = 20
"""Steps that a shown loss is the mean of."""


@dataclass(frozen=True, slots=True)
class Course:
    """Which windows each step sees, and how fast it learns. `lengths`: tokens of each window."""

    config: DistillConfig
    lengths: Sequence[int]

    @property
    def epoch_steps(self) -> int:
        return -(-len(self.lengths) // self.config.batch_size)

    @property
    def steps(self) -> int:
        whole = self.epoch_steps * self.config.epochs
        return min(whole, self.config.max_steps or whole)

    def after(self, done: int) -> Iterator[tuple[int, list[int]]]:
        """(step, numbers of its windows) of all steps after step `done`; the first step is 1."""
        for epoch in range(done // self.epoch_steps, self.config.epochs):
            order = batches(self.lengths, self.config.batch_size, self.config.seed, epoch)
            for step, batch in enumerate(order, epoch * self.epoch_steps + 1):
                if done < step <= self.steps:
                    yield step, batch

    def learning_rate(self, step: int) -> float:
        """Up to the peak and down to nothing, both in a straight line."""
        rising = max(1, round(self.config.warmup * self.steps))
        share = step / rising if step <= rising else (self.steps + 1 - step) / (self.steps + 1 - rising)
        return self.config.learning_rate * share


class Training:
    """A student on its way. `run` goes on from the newest checkpoint, if there is one."""

    def __init__(self, student: Student, windows: Sequence[Window], config: DistillConfig, place: Place) -> None:
        self.course = Course(config, [len(window.ids) for window in windows])
        self._student, self._windows, self._config, self._place = student, windows, config, place
        self._model = student.model.to(place.device)
        self._parameters = [one for one in self._model.parameters() if one.requires_grad]
        self._optimizer = _optimizer(self._parameters, config)

    def run(self, checkpoints: Checkpoints, progress: Progress) -> list[float]:
        """Train to the end; the loss of every step, in nats a token."""
        done = self._place.agree(max(checkpoints.steps(), default=0))
        losses = self._restore(checkpoints.load(done)) if done else []
        self._model.train()
        for step, batch in self.course.after(done):
            losses.append(self._step(step, [self._windows[number] for number in batch]))
            progress.tell(step, self.course.steps, loss=sum(losses[-_RECENT:]) / len(losses[-_RECENT:]))
            due = step % self._config.checkpoint_every == 0 or step == self.course.steps
            if due and self._place.leads:
                checkpoints.save(step, self._state(losses))
        return losses

    def _step(self, step: int, windows: Sequence[Window]) -> float:
        torch.manual_seed((self._config.seed * 1_000_003 + step) * 1_009 + self._place.rank)
        for group in self._optimizer.param_groups:
            group["lr"] = self.course.learning_rate(step)
        self._optimizer.zero_grad(set_to_none=False)
        loss = torch.zeros((), device=self._place.device)
        if mine := self._place.share(windows):
            loss = self._loss(Batch.of(mine, self._student, self._place.device)) / sum(len(one.ids) for one in windows)
            loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach()
        self._place.sum([total, *(_gradient(one) for one in self._parameters)])
        if not math.isfinite(total):
            raise AbortRun(f"the loss of step {step} is {float(total)}; lower learning_rate")
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimizer.step()
        return float(total)

    def _loss(self, batch: Batch) -> Tensor:
        """Sum over the tokens of a batch, in nats."""
        kind = batch.ids.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            logits = self._model(input_ids=batch.ids, attention_mask=batch.mask).logits
        return token_loss(logits.float(), batch.target, self._student.keep)[batch.text].sum()

    def _state(self, losses: Sequence[float]) -> dict[str, Any]:
        weights, moments = self._model.state_dict(), self._optimizer.state_dict()
        return {"model": weights, "optimizer": moments, "losses": list(losses)}

    def _restore(self, state: dict[str, Any]) -> list[float]:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        return list(state["losses"])


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Padded windows, all [r, t]: ids and mask for the model, the target of each token, and which tokens are text."""

    ids: Tensor
    mask: Tensor
    target: Tensor
    text: Tensor

    @classmethod
    def of(cls, windows: Sequence[Window], student: Student, device: torch.device) -> Batch:
        before, after = student.before, student.after
        width = len(before) + max(len(window.ids) for window in windows) + len(after)
        ids = torch.full((len(windows), width), int(student.model.config.pad_token_id or 0))
        mask, target = torch.zeros(len(windows), width, dtype=torch.long), torch.zeros(len(windows), width)
        text = torch.zeros(len(windows), width, dtype=torch.bool)
        for row, window in enumerate(windows):
            begin, end = len(before), len(before) + len(window.ids)
            ids[row, : end + len(after)] = torch.tensor([*before, *window.ids, *after])
            mask[row, : end + len(after)] = 1
            target[row, begin:end] = torch.from_numpy(window.target)
            text[row, begin:end] = True
        return cls(ids.to(device), mask.to(device), target.to(device), text.to(device))


def token_loss(logits: Tensor, target: Tensor, keep: int) -> Tensor:
    """Cross-entropy [r, t] of the probability of label `keep` with targets in [0, 1]; `logits` [r, t, labels]."""
    others = torch.cat([logits[..., :keep], logits[..., keep + 1 :]], -1).logsumexp(-1)
    return F.binary_cross_entropy_with_logits(logits[..., keep] - others, target, reduction="none")


def _optimizer(parameters: Sequence[Any], config: DistillConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices alone."""
    matrices, others = [one for one in parameters if one.dim() > 1], [one for one in parameters if one.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _gradient(parameter: Any) -> Tensor:
    """A parameter's gradient; zeros where this worker's windows did not touch it."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad  # type: ignore[no-any-return]
