"""What the workers of `jobs.distill` do, in two phases, each of which can be killed and started again.

`label`: the teacher labels the input, group by group. `train`: the student learns, is measured and written. Workers
read what they need from storage themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from cluster.storage import Storage
from jobs.training.checkpoints import Checkpoints
from jobs.training.distill_agreement import agreement
from jobs.training.distill_card import card
from jobs.training.distill_examples import Window, split, transform, windows_of
from jobs.training.distill_settings import DistillConfig
from jobs.training.distill_student import load_student, load_tokenizer, save_student
from jobs.training.distill_train import Training
from jobs.training.labels_align import best
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_read import groups, read_pieces
from jobs.training.labels_records import Labelled
from jobs.training.labels_store import LabelStore, label_groups
from jobs.training.labels_teachers import load_teacher
from jobs.training.place import Place
from jobs.training.progress import Progress
from jobs.training.publish import publish
from lingua.errors import ConfigError
from lingua.tokens import SourceTokenizer


def label(config: DistillConfig, place: Place) -> None:
    """Label this worker's share of the groups that are missing."""
    storage = Storage(config.storage_options)
    chunker = Chunker(SourceTokenizer(load_tokenizer(config)), config.chunk_tokens, config.language)
    store = labels_of(config, storage)
    if place.leads:
        store.note_total(sum(1 for _ in groups(read_pieces(config, storage, chunker), config.group)))
    found = groups(read_pieces(config, storage, chunker), config.group)
    load = partial(load_teacher, config, str(place.device))
    label_groups(store, found, load, place, Progress("labels", storage, config.output, place))


def train(config: DistillConfig, place: Place) -> None:
    """Train the student, measure it on what was held out, and write it; the result last."""
    storage = Storage(config.storage_options)
    records = labels_of(config, storage).read()
    chosen = best(records, config.drop_variation, config.drop_gap)
    parts = split(chosen, config.held_out, config.seed)
    targets = transform(config.learnt, parts.train, config.rate)
    student = load_student(config)
    windows = [window for record in parts.train for window in windows_of(record, student.chunker, targets)]
    if not windows:
        raise ConfigError(f"input = {', '.join(config.inputs)}: no text to train on is left after the filters")
    progress = Progress("training", storage, config.output, place)
    checkpoints = Checkpoints(storage, f"{config.output}/checkpoints", config.keep_checkpoints)
    losses = Training(student, windows, config, place).run(checkpoints, progress)
    if place.leads:
        found = agreement(student.scorer(), parts.held_out, student.chunker, targets, config.rate)
        result = {**_counts(records, chosen, windows), "agreement": asdict(found), "losses": losses}
        save = partial(save_student, config=config, student=student, card=card(config, result))
        publish(save, result, config.output, storage)
        checkpoints.clear()


def labels_of(config: DistillConfig, storage: Storage) -> LabelStore:
    """The labels of this output."""
    return LabelStore(f"{config.output}/labels", storage)


def _counts(records: Sequence[Labelled], chosen: Sequence[Labelled], windows: Sequence[Window]) -> dict[str, Any]:
    return {
        "chunks": len(records),
        "dropped": len(records) - len(chosen),
        "words": sum(len(record.words) for record in chosen),
        "windows": len(windows),
        "tokens": sum(len(window.ids) for window in windows),
    }
