"""Texts, a teacher, a tiny encoder and the settings of a distillation that takes a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jobs.training.labels_records import words_of
from lingua.tokens import SourceTokenizer
from tests.jobs.training.rows import as_flags
from tests.lingua.models.encoders import LINES, STORY, save_encoder, train_tokenizer
from tests.texts import NASTY, PROSE

LONG_WORD = 5


def long_words(texts: Sequence[str]) -> list[list[float]]:
    """A teacher that keeps words of more than `LONG_WORD` characters."""
    return [[float(len(word.strip()) > LONG_WORD) for word in words_of(text)] for text in texts]


def letters(texts: Sequence[str]) -> list[list[float]]:
    """A teacher without scale: how long each word is."""
    return [[float(len(word.strip())) for word in words_of(text)] for text in texts]


@cache
def tokenizer() -> SourceTokenizer:
    """A small WordPiece tokenizer that knows the tests' texts."""
    return SourceTokenizer(train_tokenizer("bert", [*LINES, PROSE, *NASTY.values()]))


def sentences() -> list[str]:
    """Some forty texts of a few words each."""
    found = [one.strip() for one in (STORY + " " + PROSE).replace("\n", " ").split(". ")]
    return [f"{number}. {one}." for number, one in enumerate(found * 2)]


def write_texts(path: Path) -> Path:
    """`sentences` as JSON Lines."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences()), encoding="utf-8")
    return path


def write_encoder(folder: Path) -> Path:
    """A tiny BERT with random weights of the usual size (`save_encoder` multiplies them by 8) and a tokenizer."""
    return save_encoder(folder, "bert", [*LINES, PROSE], initializer_range=0.0025)


def flags(folder: Path, output: str = "out", **others: Any) -> list[str]:
    """Arguments of a short run in this process; `others` replace them."""
    if not (folder / "texts.jsonl").exists():
        write_texts(folder / "texts.jsonl")
    if not (folder / "encoder").exists():
        write_encoder(folder / "encoder")
    settings = {
        "input": folder / "texts.jsonl",
        "output": output if "://" in output else folder / output,
        "model": folder / "encoder",
        "teacher": "tests.jobs.training.distill_runs:long_words",
        "workers": 0,
        "group": 6,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.003,
        "checkpoint_every": 4,
        "lease_seconds": 1,
        **others,
    }
    return as_flags(settings)
