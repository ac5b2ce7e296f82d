"""Questions with known answers: GSM8K and BIG-Bench Hard over worked examples; NQ, HotpotQA, MuSiQue over documents.

GSM8K is OpenAI's form (``question``, ``answer`` that ends in ``#### n``), its demonstrations a prompt of the
chain-of-thought hub (``#demonstrations=prompt_hardest.txt``, 2,366 tokens in the LLMLingua paper) or its own training
rows. BBH is the authors' form (``input``, ``target``; a file a task, or ``task`` in each record), its demonstrations
their ``cot-prompts/TASK.txt``.

Of documents, each becomes one string, numbered and titled as in LongLLMLingua's prompts, and `gold` says which of them
hold the evidence. NQ is that of "Lost in the Middle"; HotpotQA is read in its authors' form and in the hub's, and
2WikiMultihopQA shares it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cluster.storage.storage import Storage
from jobs.evaluation.forms.raw import Raw, RowSource, files_of, raw_records, read_bytes
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError

MATH = "Please reference the following examples to answer the math question."
SHOTS = 8
_STEPS = "Let's think step by step"
_QUESTION = re.compile(r"\n\s*\n(?=Q(?:uestion)?:)")
_CALCULATION = re.compile(r"<<[^>]*>>")
_HEADER = "\n-----\n"

Shown = tuple[str, tuple[str, ...]]
"""What stands before the questions of a task: an instruction, and demonstrations."""


def gsm8k(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """Math problems; the answer is the number after ``####``."""
    shown = _gsm8k_demonstrations(source, storage)
    for record in records:
        solution = record.text("answer")
        if "####" not in solution or not (final := solution.rpartition("####")[2].strip()):
            raise record.wrong("answer", "a solution that ends in '#### number'")
        yield EvalRow(
            id=record.id("id", "idx"),
            set="gsm8k",
            instruction=MATH,
            context=shown,
            question=f"Question: {record.text('question')}\n{_STEPS}",
            answers=(final,),
            gold={"solution": solution, "final": final},
        )


def bbh(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """Tasks of BIG-Bench Hard, each with the demonstrations of its own."""
    shown = _bbh_demonstrations(source, storage)
    for record in records:
        of_file = record.file.split(":")[2] if record.file.startswith("dataset:") else record.stem
        task = source.options.get("task") or record.text("task", of_file)
        if task not in shown:
            raise ConfigError(f"{record.where}: no demonstrations of task {task!r}; there are {', '.join(shown)}")
        yield EvalRow(
            id=record.id("id") if "id" in record else f"bbh-{task}-{record.place}",
            set="bbh",
            instruction=shown[task][0],
            context=shown[task][1],
            question=f"Q: {record.text('input')}\nA: {_STEPS}.",
            answers=(record.text("target"),),
            gold={"final": record.text("target")},
            meta={"task": task},
        )


def split_prompt(text: str) -> Shown:
    """A prompt of worked questions taken apart; what stands above a line of dashes (BBH's canary) is no part of it."""
    parts = _QUESTION.split("\n\n" + text.rpartition(_HEADER)[2].strip())
    return parts[0].strip(), tuple(part.strip() for part in parts[1:])


def _gsm8k_demonstrations(source: RowSource, storage: Storage) -> tuple[str, ...]:
    url = _required(source, "a prompt of the chain-of-thought hub, or the training rows")
    if url.endswith(".txt"):
        return split_prompt(read_bytes(url, storage).decode())[1]
    found, shots = list[str](), source.number("shots") or SHOTS
    for record in raw_records(url, storage):
        if "demonstrations" in record:
            if record.fields.get("name") == source.options.get("prompt", "prompt_hardest"):
                return tuple(record.texts("demonstrations"))
        elif len(found) < shots:
            steps, _, final = _CALCULATION.sub("", record.text("answer")).rpartition("####")
            worked = f"{_STEPS}\n{steps.strip()}\nThe answer is {final.strip()}"
            found.append(f"Question: {record.text('question')}\n{worked}")
    if not found:
        raise ConfigError(f"{source}: {url} holds no prompt {source.options.get('prompt', 'prompt_hardest')!r}")
    return tuple(found)


def _bbh_demonstrations(source: RowSource, storage: Storage) -> Mapping[str, Shown]:
    url = _required(source, "the authors' prompts, cot-prompts/*.txt")
    if not url.endswith(".txt"):
        records = raw_records(url, storage)
        return {one.text("task"): (one.text("instruction"), tuple(one.texts("demonstrations"))) for one in records}
    prompts = {PurePosixPath(file).stem: read_bytes(file, storage) for file in files_of(url, storage)}
    return {task: split_prompt(prompt.decode()) for task, prompt in prompts.items()}


def _required(source: RowSource, what: str) -> str:
    if not (url := source.options.get("demonstrations")):
        raise ConfigError(f"{source}: needs demonstrations; add #demonstrations=FILE ({what})")
    return url


# ---- over documents

SEARCHED = (
    "Write a high-quality answer for the given question using only the provided search results "
    "(some of which might be irrelevant)."
)


def nq(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``question``, ``answers`` and ``ctxs`` with ``title``, ``text`` and ``isgold``."""
    for record in records:
        documents = record.parts("ctxs")
        gold = [place for place, one in enumerate(documents) if one.fields.get("isgold")]
        found = [(one.text("title"), one.text("text")) for one in documents]
        evidence = {"doc_index": gold[0]} if gold else {}
        yield _row(record, f"nq-{len(documents)}docs", found, record.texts("answers"), evidence)


def hotpotqa(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``context`` with titles and sentences, ``supporting_facts`` with titles."""
    for record in records:
        told = _pairs(record, "context", "sentences")
        if any(isinstance(sentences, str) for _, sentences in told):
            raise record.wrong("context", "titles with lists of sentences")
        documents = [(title, " ".join(one.strip() for one in sentences if one.strip())) for title, sentences in told]
        facts = {title for title, _ in _pairs(record, "supporting_facts", "sent_id")}
        gold = [place for place, (title, _) in enumerate(documents) if title in facts]
        name = "2wikimultihopqa" if "evidences" in record else "hotpotqa"
        meta = {"type": record.fields["type"]} if "type" in record else {}
        yield _row(record, name, documents, [record.text("answer")], {"doc_indices": gold}, meta)


def musique(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``paragraphs`` with ``is_supporting``; questions that cannot be answered are passed over."""
    for record in records:
        if record.fields.get("answerable") is False:
            continue
        paragraphs = record.parts("paragraphs")
        documents = [(one.text("title"), one.text("paragraph_text")) for one in paragraphs]
        gold = [place for place, one in enumerate(paragraphs) if one.fields.get("is_supporting")]
        aliases = record.texts("answer_aliases") if "answer_aliases" in record else []
        yield _row(record, "musique", documents, [record.text("answer"), *aliases], {"doc_indices": gold})


def _row(
    record: Raw,
    name: str,
    documents: Sequence[tuple[str, str]],
    answers: Sequence[str],
    gold: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
) -> EvalRow:
    numbered = enumerate(documents, 1)
    return EvalRow(
        id=record.id("id", "_id"),
        set=name,
        instruction=SEARCHED,
        context=tuple(f"Document [{number}](Title: {title}) {text}" for number, (title, text) in numbered),
        question=f"Question: {record.text('question')}\nAnswer:",
        answers=tuple(answers),
        gold=gold,
        meta=meta or {},
    )


def _pairs(record: Raw, name: str, second: str) -> list[tuple[str, Any]]:
    """``[[title, x], …]`` of the authors' form, ``{title: […], second: […]}`` of the hub's."""
    value = record.fields.get(name)
    if isinstance(value, Mapping) and {"title", second} <= value.keys():
        return list(zip(value["title"], value[second], strict=True))
    if not isinstance(value, Sequence) or not all(isinstance(one, Sequence) and len(one) == 2 for one in value):
        raise record.wrong(name, f"a list of [title, {second}]")
    return [(title, other) for title, other in value]
