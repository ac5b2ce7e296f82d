"""Rows, files and targets for the evaluation's tests: small, and importable by Ray's workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.evaluation.rows import EvalRow
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import TargetSpec

PASSAGES = (
    "The river Vistula runs through Warsaw. In 1939 about 1,300,000 people lived there.",
    "Bielany Forest is a part of the Masovian Primeval Forest. It has three trails.",
    "Marie Curie was born in Warsaw on 7 November 1867. She found radium with Pierre.",
)
ROW = EvalRow(
    id="curie",
    set="cities",
    instruction="Answer from the passages.",
    context=PASSAGES,
    question="When was Marie Curie born?",
    answers=("7 November 1867", "1867"),
    gold={"doc_index": 2},
)


def row(name: str, **fields: Any) -> EvalRow:
    """The sample row under another id, with these fields."""
    return replace(ROW, id=name, **fields)


def rows_file(folder: Path, rows: Sequence[EvalRow]) -> Path:
    """A file in the unified form."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(unified(one)) + "\n" for one in rows), encoding="utf-8")
    return path


def unified(one: EvalRow) -> dict[str, Any]:
    """A row as it stands in a file."""
    texts = {"id": one.id, "set": one.set, "instruction": one.instruction, "question": one.question}
    return {**texts, "context": list(one.context), "answers": list(one.answers), "gold": dict(one.gold)}


class Reader:
    """A target that finds an answer likely if it stands in the prompt, and says the last word of the prompt."""

    scores = True

    def __init__(self, name: str) -> None:
        self.name = name

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        pairs = zip(prompts, answers, strict=True)
        return [1.0 if answer.strip() in prompt else 10.0 + len(prompt) / 10_000 for prompt, answer in pairs]

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        return ["1867" if "1867" in prompt else "nobody knows" for prompt in prompts]


def make_reader(spec: TargetSpec, config: EvalConfig) -> Reader:
    return Reader(spec.name)
