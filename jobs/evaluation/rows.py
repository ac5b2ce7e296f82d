"""`EvalRow`: one question with its context and its right answers, and how the prompt of a row is written for a target.

The unified form of an evaluation set; where rows come from is in `sources.py`. How a row is written is a `Template`:
the parts of the prompt joined as everywhere (`Prompt.text`), then the words after which the answer stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingua.prompt import Prompt, join_parts

CUES = (":", "：")
"""A question that ends so asks for its answer by itself."""
_CALCULATION = re.compile(r"<<.*?>>")


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One row of an evaluation set.

    id        unique in its set
    set       what results are grouped by; ``meta["set"]`` is the set's own name where this was given by the user
    context   demonstrations, documents, paragraphs or turns: the part that is compressed
    answers   any one is right; of summaries and replies the reference
    gold      where the evidence is, where that is known: ``doc_index``, ``doc_indices``, ``para_index``, …
    meta      task, kind, title and the like
    """

    id: str
    set: str
    instruction: str
    context: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    gold: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """How a target reads a row.

    separator    between instruction, strings of the context and question
    cue          after a question that does not end with a colon; what is generated follows it
    bridge       put behind the prompt before an answer is scored, where text stands between the two
    lead         what a scored answer begins with: tokens of text begin with their space
    worked       the entry of `gold` that holds the worked answer, which is scored instead of the bare one
    extractive   whether the answer stands in the context, so that one can look whether it is still there
    """

    separator: str = "\n\n"
    cue: str = "\nAnswer:"
    bridge: str = ""
    lead: str = " "
    worked: str = ""
    extractive: bool = True

    def prompt(self, row: EvalRow, context: Sequence[str]) -> str:
        """The prompt of a row with this context: the row's own, a compressed one, or none."""
        text = join_parts((row.instruction, *context, row.question), self.separator)
        return text if text.rstrip().endswith(CUES) else text + self.cue

    def scored(self, row: EvalRow) -> list[str]:
        """The right answers as they stand after the prompt and `bridge`."""
        worked = row.gold.get(self.worked) if self.worked else None
        answers = [_readable(str(worked))] if worked else row.answers
        return [self.lead + answer.strip() for answer in answers if answer.strip()]

    def original(self, row: EvalRow) -> Prompt:
        """The row as the compressor sees it."""
        return Prompt(row.instruction, row.context, row.question, self.separator)


QA = Template()
TEMPLATES: dict[str, Template] = {
    "gsm8k": Template(cue="", lead="\n", worked="solution", extractive=False),
    "bbh": Template(cue="", bridge="\nSo the answer is", extractive=False),
    "ircot": Template(worked="chain", extractive=False),
    "sharegpt": Template(cue="\n\nAssistant:", extractive=False),
    "qmsum": Template(separator="\n", extractive=False),
}
"""By the set's own name or what it begins with (``bbh-snarks``); all others are questions on passages (`QA`)."""


def template_of(row: EvalRow) -> Template:
    """How this row is written."""
    own = str(row.meta.get("set", row.set)).casefold()
    return next((form for stem, form in TEMPLATES.items() if re.match(rf"{stem}(?![a-z])", own)), QA)


def _readable(solution: str) -> str:
    """A solution of GSM8K as the demonstrations are written: without calculator marks, the result in words."""
    return _CALCULATION.sub("", solution).replace("#### ", "The answer is ")
