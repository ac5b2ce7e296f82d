"""Evidence without a question: how likely each word is to be asked for, as a small encoder understands its text.

The judge is a head over the encoder's states (`lingua.models.encoders.Judge`), trained on which words of encyclopaedia
paragraphs answer the questions that people wrote about them. It understands a word where it stands, which the word's
kind and place (`lingua.text.salience`) cannot; these know numbers and names for certain. Both are added up. Texts that
the encoder's tokenizer does not know, such as those of another script, are left to kind and place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lingua.budget.draft import Drafter, PromptPart
from lingua.engine.score import Program
from lingua.methods.focus import token_answers
from lingua.text.salience import Table, word_odds
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding, Ints
from lingua.text.units import Floats
from lingua.text.words import word_edges

WORD, SENTENCE = 0.7, 0.5
"""What the judge's log-odds of a word weigh, kind and place having the rest of 1; and those of its sentence, beside."""
LEGIBLE, UNKNOWN = 2.0, 0.2
"""Characters per token at least, and share of unknown tokens at most, of a text that the encoder can read."""


def judge(drafter: Drafter, parts: Sequence[PromptPart]) -> Program[None]:
    """Fill in the evidence of the parts that the encoder can read, if it has a judge."""
    if drafter.reader is None or not drafter.judged:
        return
    read = drafter.reader.encode([part.text for part in parts])
    legible = [(part, one) for part, one in zip(parts, read, strict=True) if _is_legible(one, drafter.reader.unknown)]
    answers = yield from token_answers([one for _, one in legible], drafter.window)
    for (part, one), answer in zip(legible, answers, strict=True):
        part.surprisal = _evidence(part.encoding, one, answer[:, -drafter.judged :])


def _is_legible(read: Encoding, unknown: int | None) -> bool:
    known = len(read) > 0 and np.count_nonzero(read.ids == unknown) <= UNKNOWN * len(read)
    return bool(known) and len(read.text.strip()) >= LEGIBLE * len(read)


def _evidence(encoding: Encoding, read: Encoding, judged: Floats) -> Floats:
    """Of each token [n], from what the judge says of those that the encoder `read` [t, 2]."""
    text = encoding.text
    words, sentences = word_edges(text), sentence_edges(text)
    word, sentence = (_means(judged[:, column], read, edges) for column, edges in enumerate((words, sentences)))
    odds = WORD * word + (1 - WORD) * word_odds(encoding, words)
    evidence = np.exp(SENTENCE * sentence[_place(sentences, words)]) / (1 + np.exp(-odds))
    found: Floats = evidence[_place(words, encoding.token_starts)].astype(np.float32)
    return found


def _means(values: Floats, read: Encoding, edges: Ints) -> Table:
    """The mean of the tokens' values in each stretch that begins at one of the characters `edges`."""
    place = _place(edges, read.token_starts)
    count = np.bincount(place, minlength=len(edges))
    return np.bincount(place, values, len(edges)) / np.maximum(1, count)


def _place(edges: Ints, starts: Ints) -> Ints:
    return np.maximum(0, np.searchsorted(edges, starts, side="right") - 1)
