"""Long texts: LongBench, MeetingBank, QMSum, conversations of ShareGPT, articles of arXiv; and the unified form itself.

Where a paper cuts its texts, it is cut here alike: of arXiv the first five sections, 10,000 characters each
(LLMLingua, section 5.1). ShareGPT's last reply is the reference and the request before it the question. What is left
out: LongBench's own prompts; the instructions here are short and say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.storage.storage import Storage
from jobs.evaluation.forms.raw import Raw, RowSource
from jobs.evaluation.rows import EvalRow

ROLES = {"human": "User", "user": "User", "gpt": "Assistant", "assistant": "Assistant", "system": "System"}
ROLES |= {"chatgpt": "Assistant", "bing": "Assistant", "bard": "Assistant"}
SECTIONS, SECTION_CHARACTERS = 5, 10_000
_SECTION = re.compile(r"(?<!§\.)§\s")


@dataclass(frozen=True, slots=True)
class Task:
    """How a set of LongBench is asked: an instruction, the words around its input, and where its context is parted."""

    instruction: str
    question: str = "{}"
    parted: str = r"\n+"


LONGBENCH = {
    name: Task(**task)
    for name, task in yaml.safe_load(Path(__file__).with_name("longbench.yaml").read_text("utf-8")).items()
}
"""Sets by name; others are questions over a text (``qa``)."""


def unified(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    for record in records:
        yield EvalRow(
            id=record.id("id"),
            set=record.text("set", record.stem),
            instruction=record.text("instruction", ""),
            context=tuple(record.texts("context")),
            question=record.text("question"),
            answers=tuple(record.texts("answers")),
            gold=record.object("gold"),
            meta=record.object("meta"),
        )


def longbench(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``input``, ``context``, ``answers``, ``dataset``; LongBench-E's sets end in ``_e``."""
    for record in records:
        name = record.text("dataset", record.stem).removesuffix("_e")
        task = LONGBENCH.get(name, LONGBENCH["qa"])
        parts = re.split(task.parted, record.text("context"))
        meta = {key: record.fields[key] for key in ("length", "language", "all_classes") if key in record}
        yield EvalRow(
            id=record.id("_id"),
            set=name,
            instruction=task.instruction,
            context=tuple(part.strip() for part in parts if part.strip()),
            question=task.question.format(record.text("input", "")),
            answers=tuple(record.texts("answers")),
            meta=meta,
        )


def meetingbank(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``transcript`` with ``summary``; with ``QA_pairs`` (LLMLingua-2's form) questions, unless ``#task=summary``."""
    task = source.choice("task", ("qa", "summary"))
    for record in records:
        lines = record.text("transcript" if "transcript" in record else "prompt").splitlines()
        context = tuple(line for line in lines if line.strip())
        name = record.id("id", "uid", "idx")
        if task == "summary" or (task is None and "QA_pairs" not in record):
            summary = record.text("summary" if "summary" in record else "gpt4_summary")
            yield EvalRow(name, "meetingbank", "Summarize the meeting.", context, "Summary:", (summary,))
            continue
        asked = "Answer the question about the meeting."
        for pair in record.parts("QA_pairs"):
            question, answers = f"Question: {pair.text('question')}\nAnswer:", (pair.text("answer"),)
            yield EvalRow(f"{name}-{pair.place}", "meetingbank-qa", asked, context, question, answers)


def qmsum(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """A row for each query of a meeting; specific ones know their turns."""
    for record in records:
        turns = [f"{turn.text('speaker')}: {turn.text('content')}" for turn in record.parts("meeting_transcripts")]
        for kind in ("specific", "general"):
            for query in record.parts(f"{kind}_query_list"):
                spans = query.fields.get("relevant_text_span") or []
                gold = {"relevant_turns": [[int(first), int(last)] for first, last in spans]} if spans else {}
                yield EvalRow(
                    id=f"{record.id('meeting_id')}-{kind[0]}{query.place}",
                    set="qmsum",
                    instruction="Answer the query about the meeting transcript below in a few sentences.",
                    context=tuple(turns),
                    question=f"Query: {query.text('query')}\nAnswer:",
                    answers=(query.text("answer"),),
                    gold=gold,
                    meta={"kind": kind},
                )


def sharegpt(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``conversations`` of ``from`` and ``value``; what follows the last reply to a request is left out."""
    for record in records:
        turns = [(_role(turn), turn.text("value")) for turn in record.parts("conversations")]
        while turns and [role for role, _ in turns[-2:]] != ["User", "Assistant"]:
            turns.pop()
        if len(turns) > 2:
            *context, (_, request), (_, reply) = turns
            spoken, meta = tuple(f"{role}: {text}" for role, text in context), {"turns": len(turns)}
            yield EvalRow(record.id("id"), "sharegpt", "", spoken, f"User: {request}", (reply,), meta=meta)


def _role(turn: Raw) -> str:
    if (said := turn.text("from")) not in ROLES:
        raise turn.wrong("from", f"one of {', '.join(ROLES)}")
    return ROLES[said]


def arxiv(records: Iterator[Raw], source: RowSource, storage: Storage) -> Iterator[EvalRow]:
    """``text`` with ``§`` before each section.

    The reference is the field that ``#reference=`` names, if any: the paper's is what its target makes of all the text.
    """
    field = source.options.get("reference")
    for record in records:
        parts = record.texts("sections") if "sections" in record else _sections(record.text("text"))
        yield EvalRow(
            id=record.id("entry_id", "id"),
            set="arxiv",
            instruction="Summarize the article.",
            context=tuple(part[:SECTION_CHARACTERS] for part in parts[:SECTIONS]),
            question="Summary:",
            answers=(record.text(field),) if field else (),
            meta={"title": record.text("title", "")},
        )


def _sections(text: str) -> list[str]:
    """The sections of an article; what stands before the first is left out where there are any."""
    before, *parts = _SECTION.split(text)
    return [part.strip() for part in (parts or [before]) if part.strip()]
