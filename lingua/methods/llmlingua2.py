"""LLMLingua-2 (arXiv 2403.12968): an encoder gives every token a probability of being kept.

A word's probability is the mean of its tokens' (`aggregate`); the most probable words of the *whole prompt* that
its budget holds are kept, where the public library takes a percentile of each window by itself. Windows end at sentence
ends and tile the text. With `rank_method` the question decides first which context strings stay, as in LongLLMLingua,
and the encoder reads those alone. With `keep_threshold` there is no budget: every unit above it is kept, as in
SecurityLingua. Training the encoder is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lingua.budget.draft import Draft, Importance, PromptPart
from lingua.budget.selection import keep_best, keep_within, shares
from lingua.engine.score import Context, Needs, Program, Score
from lingua.methods.llmlingua import coarse_choice, required
from lingua.methods.ranking import RANKERS, RankMethod, ranking_model
from lingua.shared import BudgetText, ContextBudget, Numbers, OnePassSettings, refuse_without
from lingua.text.sentences import sentence_edges
from lingua.text.words import word_edges

WINDOW = 510
"""Tokens of text that an encoder reads at once, as far as it can: what BERT and XLM-RoBERTa have learnt."""


class LLMLingua2Settings(OnePassSettings):
    """What LLMLingua-2 reads."""

    needs: ClassVar[Needs] = "encoder"
    aggregate: Literal["mean", "first", "max"] = Field("mean", description="a unit's probability from its tokens'")
    keep_threshold: float | None = Field(
        None, ge=0, le=1, description="instead of a budget: keep every unit of higher keep probability"
    )
    context_budget: BudgetText | None = Field(
        None, description="drop whole context strings first: what that leaves, '*2' or '+100' (default: drop none)"
    )
    rank_method: RankMethod | None = Field(None, description=RANKERS)
    force_context_ids: Numbers = Field((), description="indices of context strings that are always kept")

    @model_validator(mode="after")
    def _strings_are_dropped(self) -> Self:
        if self.context_budget is None:
            for name in ("force_context_ids", "rank_method"):
                if getattr(self, name):
                    refuse_without(name, "context_budget")
        if self.rank_method in ("longllmlingua", "longllmlingua_before", "llmlingua"):
            raise ValueError(f"rank_method {self.rank_method} asks a causal model: name one, longllmlingua:MODEL")
        if self.keep_threshold is not None and self.context_budget is not None:
            raise ValueError("context_budget needs a budget: give a rate or target_token, no keep_threshold")
        return self

    @property
    def second_model(self) -> str | None:
        return None if self.rank_method is None else ranking_model(self.rank_method)

    @property
    def budget_dependent(self) -> str | None:
        reason = "drops whole strings first (context_budget), which depends on the budget"
        return reason if self.context_budget else None

    @property
    def threshold(self) -> float | None:
        return self.keep_threshold

    def eased(self, share: float) -> Self:
        lower = None if self.keep_threshold is None else self.keep_threshold * share
        return self.model_copy(update={"keep_threshold": lower})


def llmlingua2(draft: Draft, own: LLMLingua2Settings) -> Program[None]:
    """Decide what `draft` keeps."""
    ranker = draft.drafter.ranker
    if ranker is not None and draft.prompt.question:
        choose_contexts(draft, own, (yield from ranker.importance(draft)))
        yield from classify(draft)
    else:
        yield from classify(draft)
        choose_contexts(draft, own, mean_probabilities(draft))
    if own.keep_threshold is None:
        keep_best(draft)
    else:
        keep_above(draft, own.keep_threshold)


def classify(draft: Draft) -> Program[None]:
    """Ask for the keep probability of every token that may be dropped, window by window."""
    size = min(WINDOW, draft.drafter.window)
    pieces = [(part, *piece) for part in draft.flexible for piece in windows(part, size)]
    answers = yield [Score(Context(), part.ids[begin:end].tolist()) for part, begin, end in pieces]
    for (part, begin, end), probability in zip(pieces, answers, strict=True):
        part.token_scores[begin:end] = probability


def windows(part: PromptPart, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` tokens that tile the part, each as long as it can be.

    They end where a sentence does; within a longer sentence where a word does; within a longer word anywhere.
    """
    tokens = len(part.encoding)
    edges = [0] if tokens else []
    if tokens > size:
        begins = part.encoding.token_starts
        sentences = np.searchsorted(begins, sentence_edges(part.text))
        words = np.searchsorted(begins, word_edges(part.text))
        while tokens - edges[-1] > size:
            limit = edges[-1] + size
            ends = (int(known[np.searchsorted(known, limit, side="right") - 1]) for known in (sentences, words))
            edges.append(next((end for end in ends if end > edges[-1]), limit))
    return pairwise([*edges, tokens])


def mean_probabilities(draft: Draft) -> Importance:
    """Mean keep probability of each context string's units [strings]."""
    scores = [part.scores(draft.config) for part in draft.context]
    return np.asarray([values.mean() if len(values) else -np.inf for values in scores], np.float32)


def choose_contexts(draft: Draft, own: LLMLingua2Settings, importance: Importance) -> None:
    """The coarse step: keep the most important context strings that the coarse budget holds, if there is one."""
    if own.context_budget is None or draft.prompt.context_rates:
        return
    order = np.argsort(-importance, kind="stable").tolist()
    costs, forced = [part.cost for part in draft.context], required(draft, own.force_context_ids)
    budgets = shares(draft).demonstrations, ContextBudget.parse(own.context_budget)
    draft.chosen = coarse_choice(costs, order, forced, budgets)


def keep_above(draft: Draft, threshold: float) -> None:
    """Keep every unit whose probability exceeds `threshold`, in the strings without a rate of their own."""
    for part in draft.parts:
        if part.rate is None:
            part.keep = part.must | (part.scores(draft.config) > threshold)
        else:
            keep_within(draft, [part], part.at_rate(part.rate))
