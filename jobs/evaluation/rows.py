"""`EvalRow`: one question with its context and its right answers, how its prompt is built, and what is left of it;
`Measured`: what was found of a row.

`kept_values` measures a compressed context by its text alone, the same for every candidate:

answer_kept   1 if one of the answers still stands there; absent where none stood there before
gold_kept     share of the strings with the evidence of which anything is left
gold_share    share of their own words that is left. A string's own words are those that no other string has; where
              it has none, all of its words
information, numbers, names    as `lingua.budget.fidelity` measures them
readable      share of the kept words that follow the word that they followed before: 1 for whole passages, about the
              rate for random words
run_length    mean number of words in a row that stood in a row before
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from cluster.input.shards import STORED
from lingua.budget.fidelity import Original
from lingua.prompt import Prompt, join_parts
from lingua.text.words import terms

CUES = (":", "：")
"""A question that ends so asks for its answer by itself."""
_CALCULATION = re.compile(r"<<.*?>>")


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One row of an evaluation set."""

    __pydantic_config__ = STORED

    id: str  # unique in its set
    set: str  # its own name, which says how it is asked; results are grouped by the name that the user gave the file
    instruction: str
    context: tuple[str, ...]  # demonstrations, documents, paragraphs or turns: the part that is compressed
    question: str
    answers: tuple[str, ...]  # any one is right; of summaries and replies the reference
    # where the evidence is, where that is known: ``doc_index``, ``doc_indices``, ``para_index``, …
    gold: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)  # task, kind, title and the like

    def to_json(self) -> str:
        """The row in the unified form, on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Template:
    """How a target reads a row."""

    separator: str = "\n\n"  # between instruction, strings of the context and question
    cue: str = "\nAnswer:"  # after a question that does not end with a colon; what is generated follows it
    bridge: str = ""  # put behind the prompt before an answer is scored, where text stands between the two
    lead: str = " "  # what a scored answer begins with: tokens of text begin with their space
    worked: str = ""  # the entry of `gold` that holds the worked answer, which is scored instead of the bare one
    extractive: bool = True  # whether the answer stands in the context, so that one can look whether it is still there
    metrics: tuple[str, ...] = ("subspan_em", "f1")  # of what is generated

    def prompt(self, row: EvalRow, context: Sequence[str]) -> str:
        """The prompt of a row with this context: the row's own, a compressed one, or none."""
        text = join_parts((row.instruction, *context, row.question), self.separator)
        return text if text.rstrip().endswith(CUES) else text + self.cue

    def scored(self, row: EvalRow) -> list[str]:
        """The right answers as they stand after the prompt and `bridge`."""
        worked = row.gold.get(self.worked) if self.worked else None
        if worked:  # a solution of GSM8K, as the demonstrations are written: no calculator's marks, the result in words
            worked = _CALCULATION.sub("", str(worked)).replace("#### ", "The answer is ")
        answers = [worked] if worked else row.answers
        return [self.lead + answer.strip() for answer in answers if answer.strip()]

    def original(self, row: EvalRow) -> Prompt:
        return Prompt(row.instruction, row.context, row.question, self.separator)


QA = Template()
TEMPLATES = {
    stem: Template(**{**known, "metrics": tuple(known.get("metrics", QA.metrics))})
    for stem, known in yaml.safe_load(Path(__file__).with_name("sets.yaml").read_text("utf-8")).items()
}
"""By the set's own name or what it begins with (``bbh-snarks``); all others are questions on passages (`QA`)."""


def template_of(row: EvalRow) -> Template:
    stems = [stem for stem in TEMPLATES if re.match(rf"{stem}(?![a-z])", row.set.casefold())]
    return TEMPLATES[max(stems, key=len)] if stems else QA


def kept_values(row: EvalRow, original: Original, context: str) -> dict[str, float]:
    """All these metrics of a compressed context; `original` is what the row's own holds."""
    fidelity = original.kept_in(context)
    shares = {name: getattr(fidelity, name) for name in ("information", "numbers", "names")}
    return {
        **{name: share for name, share in shares.items() if share is not None},
        **answer_kept(row, context),
        **gold_kept(row, context),
        **readability(row.context, context),
    }


def answer_kept(row: EvalRow, context: str) -> dict[str, float]:
    """Whether an answer that stood in the context still stands there, as whole words, case and marks aside."""
    if not template_of(row).extractive:
        return {}
    before = words_of("\n".join(row.context))
    if not (answers := [answer for answer in map(words_of, row.answers) if answer and contains(before, answer)]):
        return {}
    left = words_of(context)
    return {"answer_kept": float(any(contains(left, answer) for answer in answers))}


def gold_kept(row: EvalRow, context: str) -> dict[str, float]:
    """How much of the strings that hold the evidence is left."""
    if not (gold := gold_in(row)):
        return {}
    left = set(words_of(context))
    if not (shares := [len(own & left) / len(own) for own in _own_words(row.context, gold) if own]):
        return {}
    return {"gold_kept": sum(share > 0 for share in shares) / len(shares), "gold_share": sum(shares) / len(shares)}


def readability(before: Sequence[str], context: str) -> dict[str, float]:
    """How far the kept text is made of stretches of the original."""
    if len(words := words_of(context)) < 2:
        return {}
    neighbours = {pair for text in before for pair in pairwise(words_of(text))}
    joined = sum(pair in neighbours for pair in pairwise(words))
    return {"readable": joined / (len(words) - 1), "run_length": len(words) / (len(words) - joined)}


PLACES = ("strings", "doc_indices", "doc_index", "para_index", "pair_index", "chunk_index", "spans", "relevant_turns")
"""Entries of `gold` that tell which strings hold the evidence, each set in its own way."""


def gold_strings(gold: Mapping[str, Any]) -> set[int]:
    """Indices of the context strings that hold the evidence; none where that is not known."""
    single = {gold[name] for name in ("doc_index", "para_index", "pair_index", "chunk_index") if name in gold}
    several = {*gold.get("strings", ()), *gold.get("doc_indices", ())}
    spans = {span["chunk_index"] for span in gold.get("spans", ()) if "chunk_index" in span}
    turns = {turn for first, last in gold.get("relevant_turns", ()) for turn in range(int(first), int(last) + 1)}
    return {int(index) for index in (*single, *several, *spans, *turns)}


def gold_in(row: EvalRow) -> list[int]:
    """Those of them that the context has, in order; some sets say −1 where they do not know."""
    return sorted(index for index in gold_strings(row.gold) if 0 <= index < len(row.context))


def words_of(text: str) -> list[str]:
    """The words of a text, compatibility forms and case folded; single characters where a script writes no spaces."""
    return terms(unicodedata.normalize("NFKC", text))


def contains(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether `wanted` stands in `words`, in a row."""
    first, size = wanted[0], len(wanted)
    return any(word == first and words[at : at + size] == wanted for at, word in enumerate(words))


def _own_words(strings: Sequence[str], chosen: Iterable[int]) -> Iterator[set[str]]:
    """The words of each chosen string that no other string has, or all of its words."""
    words = [set(words_of(text)) for text in strings]
    spread = Counter(word for each in words for word in each)
    for index in chosen:
        yield {word for word in words[index] if spread[word] == 1} or words[index]


def fewer_strings(row: EvalRow, number: int) -> EvalRow:
    """At most `number` strings in their order, but all that hold evidence; ``gold["strings"]`` tells where they are."""
    if len(row.context) <= number:
        return row
    gold = gold_in(row)
    others = [index for index in range(len(row.context)) if index not in gold]
    kept = sorted([*gold, *others[: max(0, number - len(gold))]])
    own = {name: value for name, value in row.gold.items() if name not in PLACES}
    moved = [place for place, index in enumerate(kept) if index in gold]
    return replace(row, context=tuple(row.context[index] for index in kept), gold={**own, "strings": moved})


# ---- what was measured of a row

FULL = "full"
NOTHING = "nothing"
REFERENCES = (FULL, NOTHING)
"""Candidates without a rate: the uncompressed context, and none."""
CONTEXT = "context"
OUTPUT = "output"
REJECTED = "rejected"
"""Keys of `Measured.texts`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of one row.

    rate     asked share of the context's tokens; above 1 a number of tokens; None for the references
    target   name of the model that was asked; "" for metrics that need none
    values   metric → value, e.g. ``nll`` (nats), ``tokens``, ``answer_kept`` (0 or 1), ``f1``; a metric that does not
             apply to a row is absent
    texts    ``context``: what is left of it (of target ""); ``output``: what a target generated; ``rejected``: why the
             row could not be measured
    """

    __pydantic_config__ = STORED

    row: str
    set: str
    candidate: str
    rate: float | None
    target: str
    values: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, keys in order, numbers to nine digits: the same values give the same line."""
        values = {name: float(f"{value:.9g}") for name, value in sorted(self.values.items()) if math.isfinite(value)}
        return json.dumps({**asdict(self), "values": values}, ensure_ascii=False)


def as_lines(items: Iterable[EvalRow | Measured]) -> bytes:
    """A file with a line of JSON for each."""
    return "".join(f"{one.to_json()}\n" for one in items).encode()
