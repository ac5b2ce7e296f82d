"""The student: any encoder of transformers with a head of two labels, *drop* and *keep*; how it is loaded and saved.

An encoder without such a head gets a new one, drawn by the seed; a trained one is trained further.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_chunks import Chunker
from lingua.errors import ModelError
from lingua.models.encoder import EncoderScorer, keep_label
from lingua.models.padded import positions, special_tokens
from lingua.models.source import ModelSource, resolve
from lingua.tokens import SourceTokenizer

LABELS = {0: "drop", 1: "keep"}


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """A model in training and its tokenizer.

    before, after   special tokens around a text
    keep            index of the label *keep*
    window          tokens of text that the model reads at once
    """

    model: Any
    tokenizer: Any
    chunker: Chunker
    before: list[int]
    after: list[int]
    keep: int
    window: int

    def scorer(self) -> EncoderScorer:
        """The model as `method: llmlingua2` asks it."""
        return EncoderScorer(self.model.eval(), self.tokenizer)


def load_tokenizer(config: DistillConfig) -> Any:
    """The student's tokenizer. ModelError when it cannot be had."""
    source = resolve(config.model)
    with _explained(source):
        return AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=config.trust_remote_code, **source.load_arguments
        )


def load_student(config: DistillConfig) -> Student:
    """The encoder with its head. The same seed draws the same head."""
    source, tokenizer = resolve(config.model), load_tokenizer(config)
    names = {"id2label": LABELS, "label2id": {name: number for number, name in LABELS.items()}}
    torch.manual_seed(config.seed)
    with _explained(source), _quietly():
        model = AutoModelForTokenClassification.from_pretrained(
            source.location,
            dtype=torch.float32,
            trust_remote_code=config.trust_remote_code,
            **names,
            **source.load_arguments,
        )
    before, after = special_tokens(tokenizer)
    window = min(config.chunk_tokens, positions(model) - len(before) - len(after))
    chunker = Chunker(SourceTokenizer(tokenizer), window, config.language)
    return Student(model, tokenizer, chunker, before, after, keep_label(model.config), window)


def save_student(folder: Path, config: DistillConfig, student: Student, card: str) -> None:
    """Write the model directory with its card."""
    with _quietly():
        student.model.save_pretrained(folder)
    load_tokenizer(config).save_pretrained(folder)  # a fresh one: the chunker's reads special tokens as text
    (folder / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"model {source.name!r} cannot be loaded as an encoder: {error}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without bars, and without the report that the head is new: that is what is meant."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
