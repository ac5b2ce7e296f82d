"""What ranks the context strings of a prompt, by the name that `rank_method` takes.

By the model itself: section 4.1 of LongLLMLingua (arXiv 2310.06839) and LLMLingua's perplexity. Every string is read
on its own. The restrictive sentence behind the question ties it to the documents, so that a model does not answer from
what it knows anyway. Of a document beyond the model's window the question sees the end only.

Without it: BM25 (Robertson and Zaragoza 2009, formula 3.15) over the context strings of one prompt, which are the
collection, with the idf that stays positive, ln(1 + (N − n + ½) / (n + ½)), as in so small a collection most words are
frequent; embeddings and cross-encoders (`models.relevance`). Rankers that call paid services are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lingua.budget.draft import Draft, Importance, Ranker
from lingua.config import CompressionConfig, Condition
from lingua.engine.score import Context, Program, Score, Surprisal
from lingua.text.words import grams


@dataclass(frozen=True, slots=True)
class Computed:
    """A ranker that asks the language model for nothing: `relevance(question, documents)` computes it."""

    relevance: Callable[[str, Sequence[str]], Importance]

    def importance(self, draft: Draft) -> Program[Importance]:
        yield from ()
        return self.relevance(draft.prompt.question, draft.prompt.context)


K1, B = 1.5, 0.75
"""How soon repetition of a word saturates, and how much long documents are discounted."""


def bm25(question: str, documents: Sequence[str]) -> Importance:
    """Relevance of each document to the question [documents], 0 where they share no word."""
    counts = [Counter(grams(document)) for document in documents]
    lengths = np.asarray([count.total() for count in counts], np.float64)
    norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
    relevance = np.zeros(len(documents))
    for term in dict.fromkeys(grams(question)):
        frequency = np.asarray([count[term] for count in counts], np.float64)
        holders = np.count_nonzero(frequency)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        relevance += idf * frequency * (K1 + 1) / (frequency + norm)
    return relevance.astype(np.float32)


RESTRICTIVE_SENTENCE = "We can get the answer to this question in the given documents."


@dataclass(frozen=True, slots=True)
class OwnSurprisal:
    """The string of highest perplexity first; knows no question, so that all questions share the work."""

    def importance(self, draft: Draft) -> Program[Importance]:
        answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in draft.context]
        return _means(answers)


@dataclass(frozen=True, slots=True)
class QuestionLikelihood:
    """First the string that the question is likeliest after (``after``), or that is likeliest after it (``before``)."""

    condition: Condition = "after"

    def importance(self, draft: Draft) -> Program[Importance]:
        if self.condition == "none":
            return (yield from OwnSurprisal().importance(draft))
        asked = draft.ids(f"{draft.prompt.question} {RESTRICTIVE_SENTENCE}")
        separator = draft.ids(draft.prompt.separator)
        documents = [part.ids.tolist() for part in draft.context]
        if self.condition == "before":
            scores = [Score(Context(draft.head), ids, [*asked, *separator]) for ids in documents]
        else:
            scores = [Score(Context(draft.head), asked, [*ids, *separator]) for ids in documents]
        return -_means((yield scores))


def _means(answers: list[Surprisal]) -> Importance:
    return np.asarray([answer.mean() if len(answer) else 0.0 for answer in answers], np.float32)


def load_ranker(config: CompressionConfig, device: str = "auto", trust_remote_code: bool = False) -> Ranker:
    """The ranker that the settings name. Raises ModelError when its model cannot be loaded."""
    if config.rank_method == "longllmlingua":
        return QuestionLikelihood(config.condition_in_question)
    if config.rank_method == "llmlingua":
        return OwnSurprisal()
    if config.rank_method == "bm25":
        return Computed(bm25)
    from lingua.models.relevance import cross_encoder, embedder

    load = embedder if config.rank_method == "embedding" else cross_encoder
    return Computed(load(config.rank_model, device, trust_remote_code))
