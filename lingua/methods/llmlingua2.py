"""LLMLingua-2 (arXiv 2403.12968): an encoder tells of every token how probable it is that it should be kept.

A word's probability is the mean of its tokens' (`token_to_word`); the most probable words of the *whole prompt* that
its budget holds are kept, where the public library takes a percentile of each window by itself. Windows end at sentence
ends and tile the text. With `keep_threshold` there is no budget: every unit above it is kept, as in SecurityLingua.
Training the encoder is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from lingua.budget.draft import Draft, PromptPart
from lingua.budget.selection import keep_best, keep_within
from lingua.budget.shares import coarse_choice, shares
from lingua.config import ContextBudget
from lingua.engine.score import Context, Program, Score
from lingua.methods.llmlingua import required
from lingua.text.sentences import sentence_edges
from lingua.text.words import word_edges

_FILTER = "use_context_level_filter"
READS = {
    "coherence": "",
    "token_to_word": "",
    "window_tokens": "",
    "keep_threshold": "",
    _FILTER: "",
    "context_budget": _FILTER,
    "force_context_ids": _FILTER,
}


def llmlingua2(draft: Draft) -> Program[None]:
    """Decide what `draft` keeps."""
    yield from classify(draft)
    if draft.config.use_context_level_filter:
        choose_contexts(draft)
    if draft.config.keep_threshold is None:
        keep_best(draft)
    else:
        keep_above(draft, draft.config.keep_threshold)


def classify(draft: Draft) -> Program[None]:
    """Ask for the keep probability of every token that may be dropped, window by window."""
    size = min(draft.config.window_tokens, draft.drafter.window)
    pieces = [(part, *piece) for part in draft.flexible for piece in windows(part, size, draft.config.language)]
    answers = yield [Score(Context(), part.ids[begin:end].tolist()) for part, begin, end in pieces]
    for (part, begin, end), probability in zip(pieces, answers, strict=True):
        part.surprisal[begin:end] = probability


def windows(part: PromptPart, size: int, language: str) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` tokens that tile the part, each as long as it can be.

    They end where a sentence does; within a longer sentence where a word does; within a longer word anywhere.
    """
    tokens = len(part.encoding)
    edges = [0] if tokens else []
    if tokens > size:
        begins = part.encoding.token_starts
        sentences = np.searchsorted(begins, sentence_edges(part.text, language))
        words = np.searchsorted(begins, word_edges(part.text))
        while tokens - edges[-1] > size:
            limit = edges[-1] + size
            ends = (int(known[np.searchsorted(known, limit, side="right") - 1]) for known in (sentences, words))
            edges.append(next((end for end in ends if end > edges[-1]), limit))
    return pairwise([*edges, tokens])


def choose_contexts(draft: Draft) -> None:
    """The coarse step: keep the context strings of highest mean probability that the coarse budget holds."""
    if draft.prompt.context_rates:
        return
    scores = [part.scores(draft.config) for part in draft.context]
    means = np.asarray([values.mean() if len(values) else -np.inf for values in scores])
    order = np.argsort(-means, kind="stable").tolist()
    budgets = (shares(draft).demonstrations, ContextBudget.parse(draft.config.context_budget))
    draft.chosen = coarse_choice([part.cost for part in draft.context], order, required(draft), budgets)


def keep_above(draft: Draft, threshold: float) -> None:
    """Keep every unit whose probability exceeds `threshold`, in the strings without a rate of their own."""
    for part in draft.parts:
        if part.rate is None:
            part.keep = part.must | (part.scores(draft.config) > threshold)
        else:
            keep_within(draft, [part], part.at_rate(part.rate))
