"""LongLLMLingua (arXiv 2310.06839): keeps what the question makes important, and puts it where a model reads best.

4.1 ranks the documents by how probable the question is after each; 4.2 scores their tokens by contrast, how much the
question lowers their surprisal; 4.3 gives better documents higher rates and puts them first; 4.4 is `lingua.recover`.
The rest is LLMLingua. Departs from the paper in the contrast: both of its sides are conditioned on the document's own
uncut text before the token, so that they differ in the question alone and one side serves all questions about the
document. Without a question this is LLMLingua.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from lingua.budget.draft import Draft
from lingua.budget.selection import shares
from lingua.engine.score import Context, Program, Score
from lingua.methods import llmlingua
from lingua.methods.ranking import RANKERS, OwnSurprisal, RankMethod, load_ranker, ranking_model
from lingua.shared import Aggregate, BudgetText, ContextBudget

Order = Literal["original", "sort", "two_stage"]


class LongLLMLinguaSettings(llmlingua.LLMLinguaSettings):
    """What LongLLMLingua reads beside that."""

    context_budget: BudgetText = Field("+100", description="what the coarse step leaves: few documents, nearly whole")
    iterative_size: int = Field(200, ge=1, description="tokens per segment of the iterative compression")
    rank_method: RankMethod = Field("longllmlingua", description=RANKERS)
    condition_compare: bool = Field(
        True, description="keep what the question makes likelier, instead of what is surprising"
    )
    dynamic_context_compression_ratio: float = Field(
        0.3, ge=0, le=1, description="how much more the best string keeps than the average one"
    )
    reorder_context: Order = Field(
        "sort", description="context strings as they were, best first, or best first and last"
    )

    @property
    def second_model(self) -> str | None:
        return ranking_model(self.rank_method)


def longllmlingua(draft: Draft, own: LongLLMLinguaSettings) -> Program[None]:
    """Decide what `draft` keeps and in which order."""
    ranked = yield from choose_documents(draft, own)
    draft.chosen = arranged(ranked, own.reorder_context) if ranked else draft.chosen
    if own.sentence_filter is not None:
        yield from llmlingua.filter_sentences(draft, own.sentence_filter)
    rates = llmlingua.part_rates(draft) | document_rates(draft, ranked, own.dynamic_context_compression_ratio)
    if own.condition_compare and draft.prompt.question:
        rates |= yield from compress_by_contrast(draft, rates, own.aggregate)
    yield from llmlingua.compress_iteratively(draft, own, rates)


def choose_documents(draft: Draft, own: LongLLMLinguaSettings) -> Program[list[int]]:
    """4.1: the documents that the coarse budget holds, best first; none if they are pieces of a structure."""
    if len(draft.context) < 2 or draft.prompt.context_rates:
        return []
    ranker = draft.drafter.ranker or load_ranker(own.rank_method) if draft.prompt.question else OwnSurprisal()
    importance = yield from ranker.importance(draft)
    filled = np.asarray([len(part.encoding) > 0 for part in draft.context])
    order = np.argsort(-np.where(filled, importance, -np.inf), kind="stable").tolist()
    costs = [part.cost for part in draft.context]
    budgets = (shares(draft).demonstrations, ContextBudget.parse(own.context_budget))
    chosen = set(llmlingua.coarse_choice(costs, order, llmlingua.required(draft, own.force_context_ids), budgets))
    return [index for index in order if index in chosen]


def arranged(ranked: Sequence[int], order: Order) -> list[int]:
    """4.3: documents, given best first, in the order of the output.

    two_stage   the best at both ends, where models read best, the worst in the middle
    """
    if order == "two_stage":
        return [*ranked[::2], *ranked[1::2][::-1]]
    return list(ranked) if order == "sort" else sorted(ranked)


def document_rates(draft: Draft, ranked: Sequence[int], spread: float) -> dict[int, float]:
    """4.3: τ_k = clip(τ + δ·(1 − 2·I(k)/K), 0, 1), I(k) the rank of document k of K, by the part's identity.

    δ is the `spread`. τ is not the documents' common rate but the level at which their budget is used up, whatever is
    clipped.
    """
    parts = [draft.context[index] for index in ranked]
    optional = np.asarray([part.cost - part.must_cost for part in parts], np.float64)
    budget = shares(draft).demonstrations - sum(part.must_cost for part in parts)
    tilt = spread * (1 - 2 * np.arange(len(parts)) / max(1, len(parts)))
    low, high = -1.0 - tilt.max(initial=0), 1.0 - tilt.min(initial=0)
    for _ in range(50):
        level = (low + high) / 2
        low, high = (level, high) if (np.clip(level + tilt, 0, 1) * optional).sum() <= budget else (low, level)
    rates = np.clip(low + tilt, 0, 1) if optional.sum() > budget else np.ones(len(parts))
    return {id(part): float(rate) for part, rate in zip(parts, rates, strict=True)}


def compress_by_contrast(draft: Draft, rates: Mapping[int, float], aggregate: Aggregate) -> Program[dict[int, float]]:
    """4.2: keep each document's tokens of highest s(token | before) − s(token | question, before).

    Returns the rates of what is left to do for the documents it has cut: 1, nothing.
    """
    parts = [draft.context[index] for index in draft.chosen]
    parts = [part for part in parts if len(part.encoding) and rates[id(part)] < 1]
    question = [*draft.ids(draft.prompt.question), *draft.ids(draft.prompt.separator)]
    alone = [Score(Context(draft.head), part.ids.tolist()) for part in parts]
    asked = [Score(Context(draft.head), part.ids.tolist(), question) for part in parts]
    answers = yield [*alone, *asked]
    for part, before, after in zip(parts, answers, answers[len(parts) :], strict=False):
        part.token_scores = before - after
        llmlingua.keep_range(part, (0, len(part.keep)), (rates[id(part)], 0.0), aggregate)
    return {id(part): 1.0 for part in parts}
