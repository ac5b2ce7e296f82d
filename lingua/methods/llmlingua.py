"""LLMLingua (arXiv 2310.05736): budget controller (4.1) and iterative token-level compression (4.2).

Departs from the paper where its formulas do not add up (see `budget`), in the unit of selection (`unit: token` is the
paper's) and in that each segment keeps the k most surprising units of its budget instead of all above a threshold
(`iterative` has the loop). The peer's sentence filter may run between the two steps. Distribution alignment (4.3)
happens before: it trains the model that is used here.
"""

from __future__ import annotations

import numpy as np

from lingua.budget import coarse_choice, shares
from lingua.config import CompressionConfig, ContextBudget
from lingua.draft import Draft, Part
from lingua.methods import iterative
from lingua.methods.iterative import compress_iteratively, part_rates
from lingua.score import Context, Program, Score, Surprisal
from lingua.select import choose
from lingua.units import sentence_edges

_FILTER = "use_sentence_level_filter"
READS = {
    **iterative.READS,
    "context_budget": "",
    "force_context_ids": "",
    _FILTER: "",
    **dict.fromkeys(("sentence_budget", "keep_first_sentence", "keep_last_sentence", "keep_sentence_number"), _FILTER),
}


def llmlingua(draft: Draft) -> Program[None]:
    """Decide what `draft` keeps."""
    yield from choose_demonstrations(draft)
    if draft.config.use_sentence_level_filter:
        yield from filter_sentences(draft)
    yield from compress_iteratively(draft, part_rates(draft))


def choose_demonstrations(draft: Draft) -> Program[None]:
    """4.1, Algorithm 1: keep the demonstrations of highest perplexity that the coarse budget holds.

    Forced strings and those with a `protect`ed span are always kept; so are all that are pieces of a structure.
    """
    if draft.prompt.context_rates:
        return
    costs = [part.cost for part in draft.context]
    final = shares(draft).demonstrations
    budget = ContextBudget.parse(draft.config.context_budget)
    if len(costs) < 2 or sum(costs) <= budget.apply(final):
        return
    answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in draft.context]
    perplexity = np.asarray([answer.mean() if len(answer) else -np.inf for answer in answers])
    order = np.argsort(-perplexity, kind="stable").tolist()
    draft.chosen = coarse_choice(costs, order, required(draft), (final, budget))


def required(draft: Draft) -> set[int]:
    """Context strings that the coarse step may not drop."""
    forced = {index for index in draft.config.force_context_ids if 0 <= index < len(draft.context)}
    return forced | {index for index, part in enumerate(draft.context) if draft.drafter.protects(part.text)}


def filter_sentences(draft: Draft) -> Program[None]:
    """The peer's middle step: of the chosen strings' sentences, drop the least surprising beyond `sentence_budget`.

    A sentence's score is the mean surprisal of its tokens, given the text before it in its own string. Strings with a
    rate of their own are left to the fine step.
    """
    chosen = (draft.context[index] for index in draft.chosen)
    parts = [part for part in chosen if len(part.encoding) and part.rate is None]
    if not parts:
        return
    answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in parts]
    sentences = [_Sentences(part, answer, draft.config) for part, answer in zip(parts, answers, strict=True)]
    limit = ContextBudget.parse(draft.config.sentence_budget).apply(shares(draft).demonstrations)
    scores = np.concatenate([one.scores for one in sentences])
    costs = np.concatenate([one.costs for one in sentences])
    kept = choose(scores, costs, ~np.isfinite(scores), limit)
    for one, keep in zip(sentences, np.split(kept, np.cumsum([len(s.scores) for s in sentences])[:-1]), strict=True):
        one.part.keep &= keep[one.sentence] | one.part.must


class _Sentences:
    """The sentences of one part: `sentence` [u] is each unit's, `scores` and `costs` are per sentence.

    A sentence that the settings keep has an infinite score.
    """

    def __init__(self, part: Part, surprisal: Surprisal, config: CompressionConfig) -> None:
        self.part = part
        edges = sentence_edges(part.text, config.language)
        self.sentence = part.group(edges)
        tokens = np.repeat(self.sentence, np.diff(part.starts))
        size = np.bincount(tokens, minlength=len(edges))
        self.costs = np.bincount(self.sentence, part.costs, len(edges)).astype(np.int64)
        self.scores = np.bincount(tokens, surprisal, len(edges)) / np.maximum(1, size)
        best = np.argsort(-self.scores, kind="stable")[: config.keep_sentence_number]
        count = len(edges)
        self.scores[: config.keep_first_sentence] = np.inf
        self.scores[count - min(count, config.keep_last_sentence) :] = np.inf
        self.scores[best] = np.inf
