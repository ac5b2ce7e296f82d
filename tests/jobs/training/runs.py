"""Short runs of both training jobs: rows, tiny models and settings; and a program that kills one at a known moment.

    python -m tests.jobs.training.runs JOB MOMENT FLAG…

MOMENT is the number of a training step, or the end of the name of a file: the process is gone after the one, before the
other. It prints the steps that it does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cluster.storage.storage import Storage
from jobs import align, distill
from jobs.training.labels import words_of
from jobs.training.settings import AlignConfig, DistillConfig, TrainingConfig
from jobs.training.workers import PhaseProgress
from lingua.text.tokens import SourceTokenizer
from tests import models
from tests.lingua.models.encoders import LINES, STORY, save_encoder, train_tokenizer
from tests.texts import NASTY, PROSE

WORDS = PROSE.split()
LONG_WORD = 5


@dataclass(frozen=True, slots=True)
class Job:
    """A job, its settings and the arguments of a short run of it; `method` is the method that uses its model."""

    module: ModuleType
    config: type[TrainingConfig]
    flags: Callable[..., list[str]]
    method: str

    def run(self, folder: Path, output: str = "out", **others: Any) -> dict[str, Any]:
        """Run it to the end in this process; what it says of itself."""
        assert self.module.main(self.flags(folder, output, **others)) == 0
        return dict(json.loads((folder / output / "_result.json").read_text()))


def align_flags(folder: Path, output: str = "out", **others: Any) -> list[str]:
    """Arguments of a short alignment in this process; `others` replace them."""
    lines = [
        {"instruction": f"Tell of {WORDS[number]} {number}.", "response": " ".join(WORDS[number : number + 4])}
        for number in range(24)
    ]
    settings = {
        "input": write(folder / "rows.jsonl", lines),
        "model": folder / "small" if (folder / "small").exists() else models.save(folder / "small"),
        "held_out": 4,
        "epochs": 2,
        "learning_rate": 0.01,
        "sequence_tokens": 64,
        "step_sequences": 2,
    }
    return _flags(folder, output, settings | others)


def distill_flags(folder: Path, output: str = "out", **others: Any) -> list[str]:
    """Arguments of a short distillation in this process; `others` replace them."""
    settings = {
        "input": write(folder / "texts.jsonl", [{"text": text} for text in sentences()]),
        "model": folder / "encoder" if (folder / "encoder").exists() else write_encoder(folder / "encoder"),
        "teacher": "tests.jobs.training.runs:long_words",
        "group": 6,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.003,
    }
    return _flags(folder, output, settings | others)


def _flags(folder: Path, output: str, settings: dict[str, Any]) -> list[str]:
    given = {"output": output if "://" in output else folder / output, "workers": 0, "lease_seconds": 1, **settings}
    return [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def write(path: Path, rows: Sequence[object]) -> Path:
    """JSON Lines, unless the file is there."""
    if not path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


JOBS = {
    "align": Job(align, AlignConfig, align_flags, "llmlingua"),
    "distill": Job(distill, DistillConfig, distill_flags, "llmlingua2"),
}


# ---- distillation


def long_words(texts: Sequence[str]) -> list[list[float]]:
    """A teacher that keeps words of more than `LONG_WORD` characters."""
    return [[float(len(word.strip()) > LONG_WORD) for word in words_of(text)] for text in texts]


@cache
def tokenizer() -> SourceTokenizer:
    """A small WordPiece tokenizer that knows the tests' texts."""
    return SourceTokenizer(train_tokenizer("bert", [*LINES, PROSE, *NASTY.values()]))


def sentences() -> list[str]:
    """Some forty texts of a few words each."""
    found = [one.strip() for one in (STORY + " " + PROSE).replace("\n", " ").split(". ")]
    return [f"{number}. {one}." for number, one in enumerate(found * 2)]


def write_encoder(folder: Path) -> Path:
    """A tiny BERT with random weights of the usual size (`save_encoder` multiplies them by 8) and a tokenizer."""
    return save_encoder(folder, "bert", [*LINES, PROSE], initializer_range=0.0025)


# ---- a kill


def kill_at(moment: str) -> None:
    """Let this process be killed when it comes to `moment`."""
    tell, create = PhaseProgress.tell, Storage.create

    def telling(self: PhaseProgress, done: int, total: int, **figures: float) -> None:
        tell(self, done, total, **figures)
        if "loss" in figures:
            print(f"step {done}", flush=True)
            _die_if(str(done) == moment)

    def creating(self: Storage, url: str, data: bytes | Path) -> bool:
        _die_if(url.endswith(moment))
        return create(self, url, data)

    PhaseProgress.tell, Storage.create = telling, creating  # type: ignore[method-assign]


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    kill_at(sys.argv[2])
    sys.exit(JOBS[sys.argv[1]].module.main(sys.argv[3:]))
