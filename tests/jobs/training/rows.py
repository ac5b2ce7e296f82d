"""Rows to align on, a tiny model to align, and the settings of a run that takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import models
from tests.texts import PROSE

WORDS = PROSE.split()


def write_rows(path: Path, count: int = 24) -> Path:
    """JSON Lines of (instruction, response), each of other words of a prose text."""
    rows = [
        {"instruction": f"Tell of {WORDS[number]} {number}.", "response": " ".join(WORDS[number : number + 4])}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def flags(folder: Path, output: str = "out", **others: Any) -> list[str]:
    """Arguments of a short run in this process; `others` replace them."""
    rows, model = folder / "rows.jsonl", folder / "small"
    if not rows.exists():
        write_rows(rows)
    if not model.exists():
        models.save(model)
    settings = {
        "input": rows,
        "output": output if "://" in output else folder / output,
        "model": model,
        "held_out": 4,
        "workers": 0,
        "epochs": 2,
        "learning_rate": 0.01,
        "sequence_tokens": 64,
        "step_sequences": 2,
        "checkpoint_every": 2,
        **others,
    }
    return as_flags(settings)


def as_flags(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def result_of(folder: Path, output: str = "out") -> dict[str, Any]:
    """What a run says of itself."""
    return dict(json.loads((folder / output / "_result.json").read_text()))
