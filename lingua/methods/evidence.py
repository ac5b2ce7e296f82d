"""Evidence: keep what someone is likely to ask for, in pieces that can still be read. One step, no language model.

Our own recipe and the default: it kept more than surprisal where there is a question, and as much where there is none
(docs/evaluation.md). Three things decide, from coarse to fine:

demonstrations   strings of the same form as the question are examples: they are kept whole, or not at all; those that
                 share most with the question for their length, the best one last
coherence        of documents, whole sentences get most of the budget, then whole phrases, then words (`coherent`)
evidence         of a word: how likely its kind and place are to be asked for (`kinds`), times how much its sentence
                 speaks of the question, if there is one (`focus`): an encoder of sentences says so, if it may be asked
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex

from lingua.budget import coarse_choice, shares
from lingua.config import ContextBudget
from lingua.draft import Draft
from lingua.focus import focus, nearness, reads
from lingua.kinds import token_evidence
from lingua.methods import onepass
from lingua.methods.llmlingua import required
from lingua.methods.onepass import keep_best
from lingua.ranking.bm25 import bm25
from lingua.ranking.protocol import Importance
from lingua.score import Program
from lingua.tokens import Ints
from lingua.units import sentence_edges

READS = {
    **onepass.READS,
    "question_aware": "",
    "focus_model": "question_aware",
    "demonstrations": "",
    "force_context_ids": "demonstrations=auto or demonstrations=whole",
}
FOCUS = 4.0
"""Natural logarithm of the advantage of a sentence that holds all of the question over one that holds nothing of it."""
SHARED, NEAR = 2.8, 1.0
"""The same where an encoder reads the sentences, and the advantage for each standard deviation that one is nearer."""
LEAD = 1.0
"""Natural logarithm of the advantage of a text's beginning over its end: authors put first what matters."""
_WHOLE = 100.0
"""What is added to the evidence of demonstrations that are kept whole: more than any other can have."""
_FULL = 0.98
"""Share of the budget that whole demonstrations must fill for none to be cut."""
_TRACE = 1e-3
"""Relevance of a string that shares nothing with the question: enough for short ones to come before long ones."""
_LABEL = regex.compile(r"^[^\S\n]*(\p{L}[^\n:：]{0,30})[:：]", regex.MULTILINE)


def evidence(draft: Draft) -> Program[None]:
    """Decide what `draft` keeps."""
    whole = set(choose_demonstrations(draft) if _are_demonstrations(draft) else ())
    yield from gather_evidence(draft, [index for index in draft.chosen if index not in whole])
    for index in whole:
        draft.context[index].surprisal += _WHOLE
    keep_best(draft)


def _are_demonstrations(draft: Draft) -> bool:
    """Whether the strings are examples: as set, or if all and the question have a label in common (`Q:`)."""
    if len(draft.context) < 2 or draft.prompt.context_rates:
        return False
    if draft.config.demonstrations != "auto":
        return draft.config.demonstrations == "whole"
    labels = (set(_LABEL.findall(part.text)) for part in [draft.question, *draft.context])
    return bool(set.intersection(*labels))


def choose_demonstrations(draft: Draft) -> list[int]:
    """Keep those that share most with the question for their length, until the budget is full; all but one stay whole.

    The best one comes last, next to the question. Without a question short ones are taken, in their order.
    Returns those that stay whole.
    """
    costs = [part.cost for part in draft.context]
    relevance = bm25(_question(draft), draft.prompt.context)
    order = np.argsort(-(relevance + _TRACE) / np.maximum(1, costs), kind="stable").tolist()
    budget, forced = shares(draft).demonstrations, required(draft)
    chosen = set(coarse_choice(costs, order, forced, (budget, ContextBudget("*", 1.0))))
    taken = [index for index in order if index in chosen]
    whole, last = taken[:-1], taken[-1:]
    if forced.isdisjoint(last) and sum(costs[index] for index in whole) >= _FULL * budget:
        taken = whole
    draft.chosen = taken[::-1] if relevance.any() else sorted(taken)
    return whole


def gather_evidence(draft: Draft, cut: Sequence[int]) -> Program[None]:
    """Fill in the evidence of every token that may be dropped; those of the strings `cut` by the question, too."""
    language = draft.config.language
    for part in draft.flexible:
        place = np.linspace(0, 1, len(part.ids), endpoint=False, dtype=np.float32)
        part.surprisal = token_evidence(part.encoding, language) * np.exp(-LEAD * place)
    parts = [draft.context[index] for index in cut if draft.context[index].text]
    if not parts or not _question(draft).strip():
        return
    edges = [sentence_edges(part.text, language) for part in parts]
    advantages = yield from _advantages(
        draft, [_pieces(part.text, one) for part, one in zip(parts, edges, strict=True)]
    )
    for part, begins, values in zip(parts, edges, advantages, strict=True):
        sentence = np.searchsorted(begins, part.encoding.token_starts, side="right") - 1
        part.surprisal = part.surprisal * np.exp(values[sentence])


def _advantages(draft: Draft, strings: Sequence[Sequence[str]]) -> Program[list[Importance]]:
    """Natural logarithm of the advantage that the question gives each string's sentences [s]."""
    question, drafter = _question(draft), draft.drafter
    shared = focus(question, strings)
    if drafter.reader is None or not reads(drafter.reader, question):
        return [FOCUS * one for one in shared]
    near = yield from nearness(question, strings, drafter.reader, drafter.window)
    return [SHARED * one + NEAR * other for one, other in zip(shared, near, strict=True)]


def _question(draft: Draft) -> str:
    return draft.prompt.question if draft.config.question_aware else ""


def _pieces(text: str, begins: Ints) -> list[str]:
    return [text[start:end] for start, end in pairwise([*begins.tolist(), len(text)])]
