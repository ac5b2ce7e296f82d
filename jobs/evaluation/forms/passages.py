"""Questions over documents: NaturalQuestions of "Lost in the Middle", HotpotQA, 2WikiMultihopQA and MuSiQue.

Each document becomes one string, numbered and titled as in LongLLMLingua's prompts, and `gold` says which of them hold
the evidence. HotpotQA is read in its authors' form and in the hub's; 2WikiMultihopQA shares it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.storage.storage import Storage
from jobs.evaluation.forms.raw import Raw, RowSource
from jobs.evaluation.rows import EvalRow

INSTRUCTION = (
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
        documents = [(title, _joined(sentences)) for title, sentences in _pairs(record, "context", "sentences")]
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
        instruction=INSTRUCTION,
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


def _joined(sentences: Sequence[str]) -> str:
    """Sentences as one text; some sets begin each with its space, others do not."""
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())
