"""The training of either job: Hugging Face's `Trainer`, with its checkpoints kept in the run's folder.

Optimizer, schedule, accumulation, mixed precision, several workers and resumption are the Trainer's. Three things are
decided here, so that a run that was stopped, or that has another number of workers, learns the same: the items of every
step, drawn by the seed alone; each worker's share of them; and the seed of a step's dropout. The loss of a step is the
mean over all its labels, whoever reads them.

Nothing of `ray.train.huggingface.transformers` is used. Its `prepare_trainer` serves data sets of Ray Data, and its
callback hands checkpoints to Ray Train, which streams the list of them to its final name: a kill at that moment leaves
a list that the next start cannot read. Without Ray it keeps nothing at all.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.utils import logging

from cluster.errors import AbortRun
from cluster.output.folder import RunFolder
from cluster.report.page import environment
from jobs.training.settings import TrainingConfig
from jobs.training.workers import RESULT, PhaseProgress, Rank
from lingua.models.load import Loader

CHECKPOINTS = "checkpoints"
STATE = "trainer_state.json"
"""The last file of a checkpoint."""
KEPT = 2
WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""
SORTED_STEPS = 50
"""Steps within which items of like lengths are brought together: more need less padding and are less random."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A model and what it learns.

    items     what is learnt from, in any form that `collate` makes inputs of, `labels` among them; −100 is no label.
              It is given no items where a worker has nothing to read.
    loss      outputs, labels and their number in the whole step → the mean loss, in nats
    step      items of a step, over all workers; `at_once`: those that a worker reads together, at most
    schedule  of the learning rate, by its name in transformers; `decay`: of the weights, by AdamW
    """

    model: Any
    items: Sequence[Any]
    lengths: Sequence[int]
    collate: Callable[[Sequence[Any]], dict[str, Any]]
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    step: int
    at_once: int
    schedule: str
    decay: float


def learn(lesson: Lesson, config: TrainingConfig, folder: RunFolder, rank: Rank, **arguments: Any) -> list[float]:
    """Train the model from the newest checkpoint to the end; the loss of every step, in nats a label.

    `arguments` go to TrainingArguments. Raises AbortRun when a loss is no number.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # bars do not belong into a job's log
    steps = schedule(lesson.lengths, lesson.step, config.epochs, config.seed)
    numbers, accumulated = shares(steps, lesson.at_once, rank)
    with tempfile.TemporaryDirectory(prefix="lingua-checkpoint-") as local:
        settings = TrainingArguments(
            output_dir=local,
            num_train_epochs=1,  # `numbers` holds all epochs
            per_device_train_batch_size=1,
            gradient_accumulation_steps=accumulated,
            learning_rate=config.peak,
            lr_scheduler_type=lesson.schedule,
            warmup_steps=int(WARMUP * len(steps)),  # not rounded up: the first of them learns nothing
            weight_decay=lesson.decay,
            seed=config.seed,
            save_steps=config.checkpoint_every,
            save_total_limit=1,
            logging_steps=1,
            logging_nan_inf_filter=False,
            log_level="error",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=rank.device == "cpu",
            dataloader_pin_memory=False,
            use_cache=bool(getattr(lesson.model.config, "use_cache", False)),  # stays as it is in the model's directory
            **arguments,
        )
        if settings.device.type == "cuda":
            settings._n_gpu = 1  # one device a worker, however many it can see
        trainer = _Trainer(
            lesson.model,
            settings,
            lambda pieces: lesson.collate([lesson.items[number] for number in pieces[0]]),
            numbers,
            compute_loss_func=lesson.loss,
            callbacks=[_Course(folder, config, rank)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(newest(folder, Path(local, "resumed")))
        trainer.accelerator.unwrap_model(lesson.model, keep_fp32_wrapper=False)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def schedule(lengths: Sequence[int], size: int, epochs: int, seed: int) -> list[list[int]]:
    """The numbers of the items of every step: each once an epoch, `size` a step, the last of an epoch perhaps fewer."""
    steps = list[list[int]]()
    for epoch in range(epochs):
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(lengths)).tolist()
        stretches = (order[start : start + SORTED_STEPS * size] for start in range(0, len(order), SORTED_STEPS * size))
        alike = [number for some in stretches for number in sorted(some, key=lambda one: -lengths[one])]
        found = [alike[start : start + size] for start in range(0, len(alike), size)]
        steps += [found[number] for number in draw.permutation(len(found))]
    return steps


def shares(steps: Sequence[Sequence[int]], at_once: int, rank: Rank) -> tuple[list[list[int]], int]:
    """What this worker reads of the steps, piece by piece, and the pieces of a step, equally many on all workers."""
    most = max((-(-len(step) // rank.world) for step in steps), default=1)
    pieces = [range(start, start + at_once) for start in range(0, most, at_once)]
    own = [step[rank.index :: rank.world] for step in steps]
    return [list(mine[piece.start : piece.stop]) for mine in own for piece in pieces], len(pieces)


def newest(folder: RunFolder, local: Path) -> str | None:
    """The newest checkpoint, copied to `local`; None where there is none."""
    if not (found := _checkpoints(folder)):
        return None
    folder.get(f"{CHECKPOINTS}/{found[-1]}", local)
    return str(local)


def publish(folder: RunFolder, save: Callable[[Path], object], result: dict[str, Any]) -> None:
    """Put what `save` writes into a local directory as the model, then the result; the checkpoints are not needed then.

    Libraries take a directory without some of its files for a model, with defaults in place of what is missing; without
    `config.json` none does. So that file comes last, and a run that is killed here leaves nothing that loads.
    """
    with tempfile.TemporaryDirectory(prefix="lingua-model-") as local:
        save(Path(local))
        folder.put("model", Path(local), "config.json")
    folder.write(RESULT, json.dumps(result, indent=1).encode())
    folder.drop(CHECKPOINTS, STATE)


def save(model: Any, loader: Loader, text: str, folder: Path) -> None:
    """Write a model with its tokenizer and its card."""
    model.save_pretrained(folder, max_shard_size="4GB")
    loader.load(AutoTokenizer).save_pretrained(folder)  # a fresh one: reading changes it
    (folder / "README.md").write_text(text, encoding="utf-8")


def card(name: str, config: TrainingConfig, result: Mapping[str, Any], **told: Any) -> str:
    """The README.md of a model's directory, by the template `name`: what is `told` of it, the result, settings.

    Instead of the steps' losses it tells how many there are. Of paths only the last part is told: the rest is nobody's
    business.
    """
    shown = {name: public_name(value) if isinstance(value, str) else value for name, value in config.identity().items()}
    counts = {**{name: value for name, value in result.items() if name != "losses"}, "steps": len(result["losses"])}
    found, settings = (yaml.safe_dump(one, sort_keys=False, allow_unicode=True) for one in (counts, shown))
    template = environment(Path(__file__).parent).get_template(f"{name}.md.jinja")
    return template.render(config=config, found=found, settings=settings, **told) + "\n"


def public_name(name: str) -> str:
    """A model's name without the folder that it lies in."""
    return Path(name).name if Path(name).is_absolute() else name


def _checkpoints(folder: RunFolder) -> list[str]:
    """Names, the oldest first."""
    return sorted(folder.directories(CHECKPOINTS, STATE), key=lambda name: int(name.rpartition("-")[2]))


class _Trainer(Trainer):
    def get_train_dataloader(self) -> DataLoader[Any]:
        """In order and as they are: every worker was given its own share."""
        return DataLoader(cast(Any, self.train_dataset), batch_size=1, collate_fn=self.data_collator)


class _Course(TrainerCallback):
    """Seeds every step by its number, tells its loss, and keeps the newest checkpoints in the run's folder."""

    def __init__(self, folder: RunFolder, config: TrainingConfig, rank: Rank) -> None:
        self._progress = PhaseProgress(folder, "training", rank)
        self._folder, self._config, self._rank = folder, config, rank

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        torch.manual_seed(hash((self._config.seed, state.global_step, self._rank.index)))

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if state.is_world_process_zero:
            name = f"checkpoint-{state.global_step}"
            self._folder.put(f"{CHECKPOINTS}/{name}", Path(str(args.output_dir), name), STATE)
            for old in _checkpoints(self._folder)[:-KEPT]:
                self._folder.drop(f"{CHECKPOINTS}/{old}", STATE)

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **options: Any) -> None:
        if (loss := options["logs"].get("loss")) is not None:
            if not math.isfinite(loss):
                peak = self._config.peak
                raise AbortRun(f"the loss of step {state.global_step} is {loss}; lower learning_rate (now {peak})")
            self._progress.tell(state.global_step, state.max_steps, loss=loss)
