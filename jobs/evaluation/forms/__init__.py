"""The evaluation sets of the papers in their public form → `EvalRow`: one function a set, one table of all.

A source is a file, a glob or a data set of the hub (``dataset:openai/gsm8k:main:test``), with options behind ``#``:
``test.jsonl#demonstrations=prompt_hardest.txt&limit=100``. What set it is, its fields tell; ``form=NAME`` says it.
Files that are in the unified form already are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from cluster.storage.storage import Storage
from jobs.evaluation.forms import questions, texts
from jobs.evaluation.forms.raw import Raw, RowSource, raw_records
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError

Rows = Callable[[Iterator[Raw], RowSource, Storage], Iterator[EvalRow]]


@dataclass(frozen=True, slots=True)
class Form:
    """A public form: the fields that tell it apart (any one of the groups), and how its records become rows."""

    fields: tuple[tuple[str, ...], ...]
    rows: Rows
    options: tuple[str, ...] = ()  # names that a source may give behind ``#``, besides ``form`` and ``limit``

    def fits(self, record: Raw) -> bool:
        return any(all(name in record for name in group) for group in self.fields)


FORMS: Mapping[str, Form] = {
    "unified": Form((("context", "question", "answers"),), texts.unified),
    "hotpotqa": Form((("question", "answer", "context", "supporting_facts"),), questions.hotpotqa),
    "musique": Form((("question", "answer", "paragraphs"),), questions.musique),
    "gsm8k": Form((("question", "answer"),), questions.gsm8k, ("demonstrations", "prompt", "shots")),
    "bbh": Form((("input", "target"),), questions.bbh, ("demonstrations", "task")),
    "nq": Form((("question", "answers", "ctxs"),), questions.nq),
    "longbench": Form((("input", "context", "answers"),), texts.longbench),
    "meetingbank": Form((("transcript",), ("prompt", "QA_pairs")), texts.meetingbank, ("task",)),
    "qmsum": Form((("meeting_transcripts",),), texts.qmsum),
    "sharegpt": Form((("conversations",),), texts.sharegpt),
    "arxiv": Form((("entry_id", "text"), ("sections", "title")), texts.arxiv, ("reference",)),
}
"""In the order in which they are tried: those with more fields come before those with fewer of the same."""

UNLIKE = (TypeError, ValueError, AttributeError, LookupError)
"""What is raised where something else stands than a form has there, deeper than its fields are looked at."""


def read(source: str, storage: Storage | None = None) -> Iterator[EvalRow]:
    """The rows of a source. ConfigError naming the file, the row and the field that is wrong, or what is missing."""
    storage, asked = storage or Storage(), RowSource.parse(source)
    records = raw_records(asked.location, storage)
    if (first := next(records, None)) is None:
        raise ConfigError(f"{asked.location}: holds no rows")
    name = _form_of(first, asked)
    known = ("form", "limit", *FORMS[name].options)
    if unknown := next((option for option in asked.options if option not in known), None):
        raise ConfigError(f"{asked}: there is no option {unknown!r} here; there are {', '.join(known)}")
    last = [first]

    def each() -> Iterator[Raw]:
        for record in chain([first], records):
            last[0] = record
            yield record

    try:
        yield from islice(FORMS[name].rows(each(), asked, storage), asked.number("limit"))
    except UNLIKE as error:
        raise ConfigError(f"{last[0].where}: is no record of form {name} ({error}); mend it or leave it out") from None


def _form_of(record: Raw, source: RowSource) -> str:
    if (named := source.options.get("form")) is not None and named not in FORMS:
        raise ConfigError(f"{source}: there is no form {named!r}; there are {', '.join(FORMS)}")
    found = named or next((name for name, form in FORMS.items() if form.fits(record)), None)
    if found is None:
        raise ConfigError(
            f"{record.where}: its fields ({', '.join(record.fields)}) are those of no known form; "
            f"name one with #form=…: {', '.join(FORMS)}"
        )
    return found
