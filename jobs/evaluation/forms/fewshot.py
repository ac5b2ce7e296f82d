"""GSM8K and BIG-Bench Hard: questions of one file, worked demonstrations of another.

GSM8K is OpenAI's form (``question``, ``answer`` that ends in ``#### n``), its demonstrations a prompt of the
chain-of-thought hub (``#demonstrations=prompt_hardest.txt``, 2,366 tokens in the LLMLingua paper) or its own training
rows. BBH is the authors' form (``input``, ``target``; a file a task, or ``task`` in each record), its demonstrations
their ``cot-prompts/TASK.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster.storage.storage import Storage
from jobs.evaluation.forms.raw import Raw, RowSource, raw_records, read_bytes
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError

INSTRUCTION = "Please reference the following examples to answer the math question."
SHOTS = 8
_STEPS = "Let's think step by step"
_QUESTION = re.compile(r"\n\s*\n(?=Q(?:uestion)?:)")
_CALCULATION = re.compile(r"<<[^>]*>>")
_HEADER = "\n-----\n"


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands before the questions of a task."""

    instruction: str
    demonstrations: tuple[str, ...]


def gsm8k(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """Math problems; the answer is the number after ``####``."""
    shown = _gsm8k_demonstrations(source, storage)
    for record in records:
        solution = record.text("answer")
        final = solution.rpartition("####")[2].strip()
        if "####" not in solution or not final:
            raise record.wrong("answer", "a solution that ends in '#### number'")
        yield EvalRow(
            id=record.id("id", "idx"),
            set="gsm8k",
            instruction=INSTRUCTION,
            context=shown,
            question=f"Question: {record.text('question')}\n{_STEPS}",
            answers=(final,),
            gold={"solution": solution, "final": final},
        )


def bbh(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """Tasks of BIG-Bench Hard, each with the demonstrations of its own."""
    shown = _bbh_demonstrations(source, storage)
    for record in records:
        task = source.options.get("task") or record.text("task", _task_of(record))
        if task not in shown:
            raise ConfigError(f"{record.where}: no demonstrations of task {task!r}; there are {', '.join(shown)}")
        yield EvalRow(
            id=record.id("id") if "id" in record else f"bbh-{task}-{record.place}",
            set="bbh",
            instruction=shown[task].instruction,
            context=shown[task].demonstrations,
            question=f"Q: {record.text('input')}\nA: {_STEPS}.",
            answers=(record.text("target"),),
            gold={"final": record.text("target")},
            meta={"task": task},
        )


def split_prompt(text: str) -> Shown:
    """A prompt of worked questions taken apart; what stands above a line of dashes (BBH's canary) is no part of it."""
    parts = _QUESTION.split("\n\n" + text.rpartition(_HEADER)[2].strip())
    return Shown(parts[0].strip(), tuple(part.strip() for part in parts[1:]))


def _gsm8k_demonstrations(source: RowSource, storage: Storage) -> tuple[str, ...]:
    url = _required(source, "a prompt of the chain-of-thought hub, or the training rows")
    if url.endswith(".txt"):
        return split_prompt(read_bytes(url, storage).decode()).demonstrations
    found, shots = list[str](), source.number("shots") or SHOTS
    for record in raw_records(url, storage):
        if "demonstrations" in record:
            if record.fields.get("name") == source.options.get("prompt", "prompt_hardest"):
                return tuple(record.texts("demonstrations"))
        elif len(found) < shots:
            found.append(_worked(record))
    if not found:
        raise ConfigError(f"{source}: {url} holds no prompt {source.options.get('prompt', 'prompt_hardest')!r}")
    return tuple(found)


def _worked(record: Raw) -> str:
    """A training row as the prompts are written."""
    steps, _, final = _CALCULATION.sub("", record.text("answer")).rpartition("####")
    return f"Question: {record.text('question')}\n{_STEPS}\n{steps.strip()}\nThe answer is {final.strip()}"


def _bbh_demonstrations(source: RowSource, storage: Storage) -> Mapping[str, Shown]:
    url = _required(source, "the authors' prompts, cot-prompts/*.txt")
    if not url.endswith(".txt"):
        return {record.text("task"): _shown(record) for record in raw_records(url, storage)}
    folder = url.removesuffix("*.txt").rstrip("/")
    names = [entry.name for entry in storage.entries(folder) if entry.name.endswith(".txt")] if "*" in url else [url]
    files = {name.rpartition("/")[2].removesuffix(".txt"): f"{folder}/{name}" if "*" in url else url for name in names}
    return {task: split_prompt(read_bytes(file, storage).decode()) for task, file in files.items()}


def _shown(record: Raw) -> Shown:
    return Shown(record.text("instruction"), tuple(record.texts("demonstrations")))


def _task_of(record: Raw) -> str | None:
    """A file a task; of a hub's data set, its configuration."""
    return record.file.split(":")[2] if record.file.startswith("dataset:") else record.stem


def _required(source: RowSource, what: str) -> str:
    url = source.options.get("demonstrations")
    if not url:
        raise ConfigError(f"{source}: needs demonstrations; add #demonstrations=FILE ({what})")
    return url
