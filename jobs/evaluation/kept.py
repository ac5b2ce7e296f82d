"""What is left of a context, measured on the texts alone, the same for every candidate: no model, no alignment.

answer_kept   1 if one of the answers still stands there; absent where none stood there before
gold_kept     share of the strings with the evidence of which anything is left
gold_share    share of their own words that is left. A string's own words are those that no other string has; where
              it has none, all of its words
information, numbers, names    as `lingua.fidelity` measures them
readable      share of the kept words that follow the word that they followed before: 1 for whole passages, about the
              rate for random words
run_length    mean number of words in a row that stood in a row before
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from jobs.evaluation.rows import EvalRow, template_of
from lingua.fidelity import Original
from lingua.words import terms


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
    answers = [answer for answer in map(words_of, row.answers) if answer and contains(before, answer)]
    if not answers:
        return {}
    left = words_of(context)
    return {"answer_kept": float(any(contains(left, answer) for answer in answers))}


def gold_kept(row: EvalRow, context: str) -> dict[str, float]:
    """How much of the strings that hold the evidence is left."""
    gold = [index for index in gold_strings(row.gold) if 0 <= index < len(row.context)]
    if not gold:
        return {}
    left = set(words_of(context))
    shares = [len(own & left) / len(own) for own in _own_words(row.context, gold) if own]
    if not shares:
        return {}
    return {"gold_kept": sum(share > 0 for share in shares) / len(shares), "gold_share": sum(shares) / len(shares)}


def readability(before: Sequence[str], context: str) -> dict[str, float]:
    """How far the kept text is made of stretches of the original."""
    words = words_of(context)
    if len(words) < 2:
        return {}
    neighbours = {pair for text in before for pair in pairwise(words_of(text))}
    joined = sum(pair in neighbours for pair in pairwise(words))
    return {"readable": joined / (len(words) - 1), "run_length": len(words) / (len(words) - joined)}


def gold_strings(gold: Mapping[str, Any]) -> set[int]:
    """Indices of the context strings that hold the evidence; none where that is not known."""
    found = {int(gold[key]) for key in ("doc_index", "para_index", "pair_index", "chunk_index") if key in gold}
    found |= set(map(int, gold.get("doc_indices", ())))
    found |= {int(span["chunk_index"]) for span in gold.get("spans", ()) if "chunk_index" in span}
    return found | {turn for first, last in gold.get("relevant_turns", ()) for turn in range(first, last + 1)}


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
