"""LLMLingua (arXiv 2310.05736): budget controller (4.1) and iterative token-level compression (4.2).

Departs from the paper where its formulas do not add up (see `budget`), in the unit of selection (`unit: token` is the
paper's) and in that each segment keeps the k most surprising units of its budget instead of all above a threshold.
Segments do not cross from one part of the prompt into the next. The peer's sentence filter may run between the two
steps. Distribution alignment (4.3) happens before: it trains the model that is used here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lingua.budget import at_rate, coarse_choice, optional_rate, shares
from lingua.config import CompressionConfig, ContextBudget
from lingua.draft import Draft, Part
from lingua.engine import Context, Program, Score, Surprisal
from lingua.select import choose
from lingua.units import sentence_edges


def llmlingua(draft: Draft) -> Program[None]:
    """Decide what `draft` keeps."""
    yield from choose_demonstrations(draft)
    if draft.config.use_sentence_level_filter:
        yield from filter_sentences(draft)
    yield from compress_iteratively(draft)


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

    A sentence's score is the mean surprisal of its tokens, given the text before it in its own string.
    """
    parts = [part for part in (draft.context[index] for index in draft.chosen) if len(part.encoding)]
    answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in parts]
    sentences = [_Sentences(part, answer, draft.config) for part, answer in zip(parts, answers, strict=True)]
    limit = ContextBudget.parse(draft.config.sentence_budget).apply(shares(draft).demonstrations)
    scores = np.concatenate([one.scores for one in sentences]) if sentences else np.zeros(0, np.float32)
    costs = np.concatenate([one.costs for one in sentences]) if sentences else np.zeros(0, np.int64)
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
        self.sentence = np.searchsorted(edges, part.bounds[:-1], side="right") - 1
        tokens = np.repeat(self.sentence, np.diff(part.starts))
        size = np.bincount(tokens, minlength=len(edges))
        self.costs = np.bincount(self.sentence, part.costs, len(edges)).astype(np.int64)
        self.scores = np.bincount(tokens, surprisal, len(edges)) / np.maximum(1, size)
        best = np.argsort(-self.scores, kind="stable")[: config.keep_sentence_number]
        count = len(edges)
        self.scores[: config.keep_first_sentence] = np.inf
        self.scores[count - min(count, config.keep_last_sentence) :] = np.inf
        self.scores[best] = np.inf


def compress_iteratively(draft: Draft) -> Program[None]:
    """4.2, Algorithm 2: score each segment given the compressed ones before it (5), and keep its share (6, 7)."""
    context, commit = Context(draft.head), list[int]()
    separator = draft.drafter.source.encode([draft.prompt.separator])[0].ids.tolist()
    rates = part_rates(draft)
    allowance = 0.0
    for part, first in draft.stream():
        commit += [] if first else separator
        rate = rates[id(part)]
        if rate == 1:
            commit += part.kept_ids(0, len(part.keep))
            continue
        for begin, end in segments(part, draft.config.iterative_size):
            probe = part.kept_ids(begin, end)
            (surprisal,) = yield [Score(context, probe, commit)]
            allowance = _keep_segment(part, (begin, end), surprisal, (rate, allowance), draft.config)
            commit = part.kept_ids(begin, end)


def part_rates(draft: Draft) -> dict[int, float]:
    """(6): the share of their optional tokens that a segment of each part may keep, by the part's identity."""
    budget = shares(draft)
    chosen = [draft.context[index] for index in draft.chosen]
    shared = [part for part in chosen if part.rate is None]
    rates = {id(part): optional_rate(shared, budget.demonstrations) for part in shared}
    rates |= {id(part): optional_rate([part], at_rate(part, part.rate)) for part in chosen if part.rate is not None}
    rates[id(draft.instruction)] = optional_rate([draft.instruction], budget.instruction)
    rates[id(draft.question)] = optional_rate([draft.question], budget.question)
    return rates


def segments(part: Part, size: int) -> Iterator[tuple[int, int]]:
    """Unit ranges of about `size` tokens, equally long, each of at least one unit."""
    tokens = int(part.starts[-1])
    number = max(1, -(-tokens // size))
    edges = np.searchsorted(part.starts, np.linspace(0, tokens, number + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], edges, [len(part.starts) - 1]]))
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _keep_segment(
    part: Part,
    units: tuple[int, int],
    surprisal: Surprisal,
    budget: tuple[float, float],
    config: CompressionConfig,
) -> float:
    """Keep the segment's most surprising units; returns the allowance it left over for the next one."""
    begin, end = units
    rate, allowance = budget
    alive = part.keep[begin:end]
    tokens = slice(part.starts[begin], part.starts[end])
    part.surprisal[tokens][np.repeat(alive, np.diff(part.starts[begin : end + 1]))] = surprisal
    must, costs = part.must[begin:end], part.costs[begin:end]
    must_cost = costs[must].sum()
    allowance += must_cost + rate * (costs[alive].sum() - must_cost)
    scores = np.where(alive, part.scores(config)[begin:end], -np.inf)
    keep = choose(scores, np.where(alive, costs, np.iinfo(np.int64).max // 2), must, allowance)
    part.keep[begin:end] = keep & alive
    return float(allowance - costs[keep].sum())
