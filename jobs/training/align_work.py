"""What the workers of `jobs.align` do, in three phases, each of which can be killed and started again.

`respond`: the target writes responses, chunk by chunk. `look`: the target's own surprisal on the held-out ones.
`train`: the small model is measured, trained, measured again and written. Workers read rows from storage themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from cluster.storage import Storage
from jobs.training import responses
from jobs.training.agreement import Measured, Seen, measure
from jobs.training.align_settings import AlignConfig
from jobs.training.card import card
from jobs.training.checkpoints import Checkpoints
from jobs.training.examples import Example, Split, digest, read_examples, split
from jobs.training.optimize import Optimizer
from jobs.training.packing import Steps, Tokens, make_steps, tokenize
from jobs.training.place import Place
from jobs.training.progress import Progress
from jobs.training.publish import publish
from jobs.training.student import Student, load_causal, load_tokenizer, window_of
from jobs.training.surprisal import Reader
from jobs.training.target import open_writer
from lingua.errors import ConfigError
from lingua.models.load import choose_dtype
from lingua.models.source import resolve
from lingua.tokens import SourceTokenizer


def lacks_responses(config: AlignConfig, storage: Storage) -> bool:
    """Whether `respond` has something to do."""
    if config.target is None:
        return False
    return bool(responses.missing(responses.chunks(read_examples(config, storage), config), config, storage))


def lacks_surprisal(config: AlignConfig, storage: Storage) -> bool:
    """Whether `look` has something to do, once there are responses."""
    if config.target is None or config.endpoint is not None:
        return False
    return not storage.exists(_seen_url(config, load_split(config, storage).held_out))


def respond(config: AlignConfig, place: Place) -> None:
    """Write this worker's share of the missing responses."""
    storage = Storage(config.storage_options)
    wanted = responses.chunks(read_examples(config, storage), config)
    mine = responses.missing(place.share(wanted), config, storage)
    if not mine:
        return
    writer, progress = open_writer(config, storage), Progress("responses", storage, config.output, place)
    for done, chunk in enumerate(mine):
        progress.tell(done, len(mine))
        responses.write_chunk(chunk, writer, config, storage)


def look(config: AlignConfig, place: Place) -> None:
    """Keep the target's surprisal on the held-out responses; work for one."""
    storage = Storage(config.storage_options)
    held = load_split(config, storage).held_out
    name, trust = str(config.target), config.trust_remote_code
    reader = Reader(load_causal(name, torch.float32, trust).to(place.device).eval().requires_grad_(False))
    tokens = tokenize(held, SourceTokenizer(load_tokenizer(name, trust)), config.sequence_tokens)
    usable = [one for one in tokens if one is not None]
    values = iter(reader.each(usable, config.sequence_tokens))
    seen = [None if one is None else (one.ends.tolist(), next(values).tolist()) for one in tokens]
    storage.create(_seen_url(config, held), json.dumps(seen).encode())


def train(config: AlignConfig, place: Place) -> None:
    """Train the small model and write it, with its card; the result last."""
    storage = Storage(config.storage_options)
    work = Training(config, place, storage)
    before, losses = work.run()
    work.student.finish()
    after = measure(work.reader(), work.held, work.window, place)
    if place.leads:
        result = {**work.counts(), "before": asdict(before), "after": asdict(after), "losses": losses}
        publish(partial(work.student.save, card=card(config, result)), result, config.output, storage)
        work.checkpoints.clear()


class Training:
    """A student, what it learns from and where it stands."""

    def __init__(self, config: AlignConfig, place: Place, storage: Storage) -> None:
        self._config, self._place = config, place
        self._split = load_split(config, storage)
        self.student = Student(config, place.device)
        self.window = min(config.sequence_tokens, window_of(self.student.model))
        tokenizer = self.student.tokenizer()
        self.tokens = [one for one in tokenize(self._split.train, tokenizer, self.window) if one is not None]
        self.held = self._held(tokenizer, _read_seen(config, self._split.held_out, storage))
        if not self.tokens or not self.held:
            raise ConfigError(
                f"sequence_tokens = {self.window}: too short for the texts before the responses; raise it"
            )
        self.checkpoints = Checkpoints(storage, f"{config.output}/checkpoints", config.keep_checkpoints)
        self._progress = Progress("training", storage, config.output, place)

    def run(self) -> tuple[Measured, list[float]]:
        """Train to the end from the newest checkpoint; the model before training, and the loss of every step."""
        reader, steps = self.reader(), self._steps()
        optimizer = Optimizer(self.student, reader, self._config, self._place)
        before, losses = self._resume(reader, optimizer)
        self.student.model.train()
        for number in range(len(losses), len(steps)):
            packs = [[self.tokens[index] for index in pack] for pack in steps[number]]
            losses.append(optimizer.step(number, len(steps), packs))
            self._progress.tell(number + 1, len(steps), loss=losses[-1])
            if (number + 1) % self._config.checkpoint_every == 0 and self._place.leads:
                state = {"model": self.student.state(), "optimizer": optimizer.state()}
                self.checkpoints.save(number + 1, {**state, "before": asdict(before), "losses": losses})
        return before, losses

    def _resume(self, reader: Reader, optimizer: Optimizer) -> tuple[Measured, list[float]]:
        step = self._place.agree(max(self.checkpoints.steps(), default=0))
        if step == 0:
            self.student.model.eval()
            return measure(reader, self.held, self.window, self._place), []
        state = self.checkpoints.load(step)
        self.student.restore(state["model"])
        optimizer.restore(state["optimizer"])
        return Measured(**state["before"]), list(state["losses"])

    def reader(self) -> Reader:
        """Reads with the student as it is now."""
        return Reader(self.student.model, choose_dtype(self._config.dtype, self._place.device))

    def counts(self) -> dict[str, Any]:
        """What was trained and measured on, for the card."""
        return {
            "model_digest": resolve(self._config.model).digest,
            "target_digest": responses.target_digest(self._config),
            "rows": len(self.tokens),
            "skipped_rows": len(self._split.train) - len(self.tokens),
            "tokens": sum(map(len, self.tokens)),
            "response_tokens": sum(one.predicted for one in self.tokens),
            "train_digest": digest(self._split.train),
            "held_out_digest": digest(self._split.held_out),
        }

    def _steps(self) -> Steps:
        config = self._config
        lengths = [len(one) for one in self.tokens]
        steps = make_steps(lengths, self.window, config.step_sequences, config.seed, config.epochs)
        return steps[: config.max_steps]

    def _held(
        self, tokenizer: SourceTokenizer, seen: Sequence[Seen | None]
    ) -> list[tuple[Example, Tokens, Seen | None]]:
        tokens = tokenize(self._split.held_out, tokenizer, self.window)
        together = zip(self._split.held_out, tokens, seen, strict=True)
        return [(example, one, target) for example, one, target in together if one is not None]


def load_split(config: AlignConfig, storage: Storage) -> Split:
    """The rows with their responses, divided. After `respond`, where there is a target."""
    examples = read_examples(config, storage)
    if config.target is not None:
        examples = responses.read_responses(responses.chunks(examples, config), storage)
    return split(examples, config.held_out)


def _seen_url(config: AlignConfig, held: Sequence[Example]) -> str:
    return f"{config.output}/responses/_surprisal-{config.sequence_tokens}-{digest(held)}.json"


def _read_seen(config: AlignConfig, held: Sequence[Example], storage: Storage) -> list[Seen | None]:
    if config.target is None or config.endpoint is not None:
        return [None] * len(held)
    rows = json.loads(storage.read(_seen_url(config, held)))
    return [None if row is None else Seen(np.asarray(row[0]), np.asarray(row[1])) for row in rows]
