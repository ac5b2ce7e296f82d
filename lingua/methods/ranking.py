"""What ranks the context strings of a prompt, by the name that `rank_method` takes.

By the model itself: section 4.1 of LongLLMLingua (arXiv 2310.06839) and LLMLingua's perplexity. Every string is read
on its own. The restrictive sentence behind the question ties it to the documents, so that a model does not answer from
what it knows anyway. Of a document beyond the model's window the question sees the end only.

Without it: BM25 (Robertson and Zaragoza 2009, formula 3.15) over the context strings of one prompt, which are the
collection, with the idf that stays positive, ln(1 + (N − n + ½) / (n + ½)), as in so small a collection most words are
frequent; embeddings and cross-encoders (`models.encoders`). Rankers that call paid services are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from lingua.budget.draft import Draft, Importance, Ranker
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, Context, Program, Score, Scorer
from lingua.errors import PromptError
from lingua.explain import meant
from lingua.models.source import EMBEDDER, resolve
from lingua.text.tokens import SourceTokenizer
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
    """First the string that the question is likeliest after; or, with the question `before`, the likeliest after it."""

    before: bool = False

    def importance(self, draft: Draft) -> Program[Importance]:
        asked = draft.ids(f"{draft.prompt.question} {RESTRICTIVE_SENTENCE}")
        separator = draft.ids(draft.prompt.separator)
        documents = [part.ids.tolist() for part in draft.context]
        if self.before:
            scores = [Score(Context(draft.head), ids, [*asked, *separator]) for ids in documents]
        else:
            scores = [Score(Context(draft.head), asked, [*ids, *separator]) for ids in documents]
        return -_means((yield scores))


@dataclass(frozen=True, slots=True)
class LikelihoodBy:
    """`QuestionLikelihood` by a causal model of its own, as where the compressor's is an encoder."""

    scorer: Scorer
    tokenizer: SourceTokenizer

    def importance(self, draft: Draft) -> Program[Importance]:
        yield from ()
        prompt, bos = draft.prompt, self.tokenizer.bos
        texts = [f"{prompt.question} {RESTRICTIVE_SENTENCE}", prompt.separator, *prompt.context]
        asked, separator, *documents = (one.ids.tolist() for one in self.tokenizer.encode(texts))
        head = () if bos is None else (bos,)
        scores = [Score(Context(head), asked, [*ids, *separator]) for ids in documents]
        engine: Engine[list[Answer]] = Engine(self.scorer)
        (answers,) = engine.run([_answers(scores)])
        if isinstance(answers, PromptError):
            raise answers
        return -_means(answers)


def _answers(scores: list[Score]) -> Program[list[Answer]]:
    return (yield scores)


def _means(answers: list[Answer]) -> Importance:
    return np.asarray([answer.mean() if len(answer) else 0.0 for answer in answers], np.float32)


OWN: dict[str, Ranker] = {
    "longllmlingua": QuestionLikelihood(),
    "longllmlingua_before": QuestionLikelihood(before=True),
    "llmlingua": OwnSurprisal(),
    "bm25": Computed(bm25),
}
"""The rankers that ask no model of their own."""
_NAMES = (*OWN, "embedding")
_WITH_MODEL = ("embedding", "reranker", "longllmlingua")


def _rank_method(value: str) -> str:
    kind, _, model = value.partition(":")
    if value in _NAMES or (kind in _WITH_MODEL and model):
        return value
    if kind == "reranker":
        raise ValueError("needs the name or directory of a cross-encoder: reranker:MODEL")
    hint = f";{close}" if (close := meant(kind, (*_NAMES, "reranker"))) else ""
    raise ValueError(f"must be {', '.join(_NAMES)}, or longllmlingua, embedding or reranker:MODEL{hint}")


RankMethod = Annotated[str, AfterValidator(_rank_method)]
"""The name of a ranker, with the model that it asks where it asks one."""
RANKERS = (
    "what ranks the context strings: longllmlingua (how likely the question is after one), longllmlingua_before (one "
    "after the question), llmlingua, bm25, embedding; longllmlingua:MODEL, embedding:MODEL or reranker:MODEL; "
    "llmlingua2 takes bm25 or one with a model, beside context_budget "
    "(default: longllmlingua; for llmlingua2 mean probability)"
)
"""What the setting says about itself, for all methods that read it."""


def ranking_model(method: str) -> str | None:
    """The model that a ranker asks beside the compressor's."""
    kind, _, model = method.partition(":")
    return model or (EMBEDDER if kind == "embedding" else None)


def load_ranker(method: str, device: str = "auto", trust_remote_code: bool = False) -> Ranker:
    """The ranker of this name. Raises ModelError when its model cannot be loaded."""
    model = ranking_model(method)
    if model is None:
        return OWN[method]
    from lingua.models.load import Loader

    causal = method.startswith("longllmlingua")
    loader = Loader(resolve(model), device, "auto" if causal else "float32", trust_remote_code)
    if causal:
        return LikelihoodBy(loader.scorer("causal"), SourceTokenizer(loader.tokenizer()))
    return Computed(loader.cross_encoder() if method.startswith("reranker") else loader.embedder())
