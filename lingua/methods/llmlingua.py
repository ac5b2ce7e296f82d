"""LLMLingua (arXiv 2310.05736): budget controller (4.1) and iterative token-level compression (4.2).

Departs from the paper where its formulas do not add up (see `shares`), in the unit of selection (`unit: token` is the
paper's) and in that each segment keeps the k most surprising units of its budget instead of all above a threshold
(`compress_iteratively`). The peer's sentence filter may run between the two steps. Distribution alignment (4.3)
happens before: it trains the model that is used here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lingua.budget.draft import Draft, PromptPart
from lingua.budget.selection import choose, optional_rate, shares
from lingua.engine.score import Answer, Context, Needs, Program, Score
from lingua.shared import Aggregate, BudgetText, ContextBudget, MethodSettings, Numbers
from lingua.text.sentences import sentence_edges
from lingua.text.units import protected_spans, unit_scores

RATE_STEPS = 64
"""Of a shared rate's binary fraction: the step is 1.6% to 3.1% of the rate."""


class SentenceFilter(BaseModel):
    """What the sentence filter leaves beyond the final budget, and how many sentences of each string always stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: BudgetText = "*1.5"
    first: int = Field(0, ge=0)
    last: int = Field(0, ge=0)
    best: int = Field(0, ge=0)


class LLMLinguaSettings(MethodSettings):
    """What LLMLingua reads, and LongLLMLingua too."""

    needs: ClassVar[Needs] = "causal"
    context_budget: BudgetText = Field(
        "*2",
        description="what the coarse step leaves: '*2' (a factor, the paper's k) or '+100' (tokens) "
        "(default: *2; longllmlingua: +100)",
    )
    force_context_ids: Numbers = Field((), description="indices of context strings that are always kept")
    sentence_filter: SentenceFilter | None = Field(
        None,
        description="drop whole sentences before the fine step: an object with any of budget ('*1.5' or '+100'), "
        "first, last and best (sentences of each context string that stay)",
    )
    iterative_size: int = Field(
        100, ge=1, description="tokens per segment of the iterative compression (default: 100; longllmlingua: 200)"
    )
    aggregate: Aggregate = Field("sum", description="how a unit's score is made of its tokens'")

    @property
    def cuts_sentences(self) -> bool:
        return self.sentence_filter is not None


def llmlingua(draft: Draft, own: LLMLinguaSettings) -> Program[None]:
    """Decide what `draft` keeps."""
    yield from choose_demonstrations(draft, own)
    if own.sentence_filter is not None:
        yield from filter_sentences(draft, own.sentence_filter)
    yield from compress_iteratively(draft, own, part_rates(draft))


def choose_demonstrations(draft: Draft, own: LLMLinguaSettings) -> Program[None]:
    """4.1, Algorithm 1: keep the demonstrations of highest perplexity that the coarse budget holds.

    Forced strings and those with a `protect`ed span are always kept; so are all that are pieces of a structure.
    """
    if draft.prompt.context_rates or len(draft.context) < 2:
        return
    costs = [part.cost for part in draft.context]
    final = shares(draft).demonstrations
    budget = ContextBudget.parse(own.context_budget)
    if sum(costs) <= budget.apply(final):
        return
    answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in draft.context]
    perplexity = np.asarray([answer.mean() if len(answer) else -np.inf for answer in answers])
    order = np.argsort(-perplexity, kind="stable").tolist()
    draft.chosen = coarse_choice(costs, order, required(draft, own.force_context_ids), (final, budget))


def required(draft: Draft, forced: Iterable[int]) -> set[int]:
    """Context strings that the coarse step may not drop: those that are forced, or hold what is protected."""
    known = {index for index in forced if 0 <= index < len(draft.context)}
    return known | {index for index, part in enumerate(draft.context) if protected_spans(part.text, draft.config)}


def filter_sentences(draft: Draft, settings: SentenceFilter) -> Program[None]:
    """The peer's middle step: of the chosen strings' sentences, drop the least surprising beyond its budget.

    A sentence's score is the mean surprisal of its tokens, given the text before it in its own string. Strings with a
    rate of their own are left to the fine step.
    """
    chosen = (draft.context[index] for index in draft.chosen)
    parts = [part for part in chosen if len(part.encoding) and part.rate is None]
    if not parts:
        return
    answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in parts]
    sentences = [_Sentences(part, answer, settings) for part, answer in zip(parts, answers, strict=True)]
    limit = ContextBudget.parse(settings.budget).apply(shares(draft).demonstrations)
    scores = np.concatenate([one.scores for one in sentences])
    costs = np.concatenate([one.costs for one in sentences])
    kept = choose(scores, costs, ~np.isfinite(scores), limit)
    for one, keep in zip(sentences, np.split(kept, np.cumsum([len(s.scores) for s in sentences])[:-1]), strict=True):
        one.part.keep &= keep[one.sentence] | one.part.must


class _Sentences:
    """The sentences of one part: `sentence` [u] is each unit's, `scores` and `costs` are per sentence.

    A sentence that the settings keep has an infinite score.
    """

    def __init__(self, part: PromptPart, surprisal: Answer, settings: SentenceFilter) -> None:
        self.part = part
        edges = sentence_edges(part.text)
        self.sentence = edges.searchsorted(part.bounds[:-1], side="right") - 1
        tokens = np.repeat(self.sentence, np.diff(part.starts))
        size = np.bincount(tokens, minlength=len(edges))
        self.costs = np.bincount(self.sentence, part.costs, len(edges)).astype(np.int64)
        self.scores = np.bincount(tokens, surprisal, len(edges)) / np.maximum(1, size)
        best = np.argsort(-self.scores, kind="stable")[: settings.best]
        count = len(edges)
        self.scores[: settings.first] = np.inf
        self.scores[count - min(count, settings.last) :] = np.inf
        self.scores[best] = np.inf


def compress_iteratively(draft: Draft, own: LLMLinguaSettings, rates: Mapping[int, float]) -> Program[None]:
    """Algorithm 2 over all parts; `rates` are those of `part_rates`. A part at rate 1 is read as it stands, uncut."""
    context, commit = Context(draft.head, reserved=kept_tokens(draft, own, rates)), list[int]()
    separator = draft.ids(draft.prompt.separator)
    allowance = 0.0
    for part, first in draft.stream():
        commit += [] if first else separator
        rate = rates[id(part)]
        if rate == 1:
            commit += part.kept_ids(0, len(part.keep))
            continue
        for begin, end in segments(part, own.iterative_size):
            (surprisal,) = yield [Score(context, part.kept_ids(begin, end), commit)]
            kept = np.repeat(part.keep[begin:end], part.starts[begin + 1 : end + 1] - part.starts[begin:end])
            part.token_scores[part.starts[begin] : part.starts[end]][kept] = surprisal
            allowance = keep_range(part, (begin, end), (rate, allowance), own.aggregate)
            commit = part.kept_ids(begin, end)


def kept_tokens(draft: Draft, own: LLMLinguaSettings, rates: Mapping[int, float]) -> int:
    """About how many tokens the context grows to: what is kept until the last part that is cut, and one segment."""
    separator = len(draft.ids(draft.prompt.separator))
    read, most = float(len(draft.head)), 0.0
    for part, first in draft.stream():
        rate, cost = rates[id(part)], part.cost
        kept = part.must_cost + rate * (cost - part.must_cost) if rate < 1 else cost
        read += (0 if first else separator) + len(part.encoding) * kept / max(1, int(part.costs.sum()))
        most = most if rate == 1 else read + own.iterative_size
    return round(most)


def part_rates(draft: Draft) -> dict[int, float]:
    """(6): the share of their optional tokens that a segment of each part may keep, by the part's identity.

    What the steps of the shared rate leave over is filled at the end, when the exact budget is settled.
    """
    budget = shares(draft)
    chosen = [draft.context[index] for index in draft.chosen]
    shared = [part for part in chosen if part.rate is None]
    rates = dict.fromkeys(map(id, shared), stepped(optional_rate(shared, budget.demonstrations)))
    rates |= {id(part): optional_rate([part], part.at_rate(part.rate)) for part in chosen if part.rate is not None}
    rates[id(draft.instruction)] = optional_rate([draft.instruction], budget.instruction)
    rates[id(draft.question)] = optional_rate([draft.question], budget.question)
    return rates


def segments(part: PromptPart, size: int) -> Iterator[tuple[int, int]]:
    """Unit ranges of about `size` tokens, equally long, each of at least one unit."""
    tokens = int(part.starts[-1])
    number = max(1, -(-tokens // size))
    edges = part.starts.searchsorted(np.arange(1, number) * (tokens / number)).tolist()
    return pairwise(sorted({0, *edges, len(part.starts) - 1}))


def keep_range(part: PromptPart, units: tuple[int, int], budget: tuple[float, float], aggregate: Aggregate) -> float:
    """Of the units [begin, end) that are still kept, keep the best that their rate and what was left over allow.

    budget   the rate of the optional tokens, and the allowance in target tokens that comes on top
    Returns the allowance left over.
    """
    begin, end = units
    rate, allowance = budget
    starts, costs = part.starts[begin : end + 1], part.costs[begin:end]
    keep, must = part.keep[begin:end], part.must[begin:end]
    alive = keep.copy()
    must_cost = int(costs @ must)
    allowance += must_cost + rate * (int(costs @ alive) - must_cost)
    scores = unit_scores(part.token_scores[starts[0] : starts[-1]], starts - starts[0], aggregate)
    keep[alive] = choose(scores[alive], costs[alive], must[alive], allowance)
    return float(allowance - costs @ keep)


def coarse_choice(costs: list[int], order: list[int], must: set[int], budget: tuple[float, ContextBudget]) -> list[int]:
    """Algorithm 1: take strings in `order` until the next would exceed the coarse budget; their indices, ascending.

    costs    target tokens of every string
    order    indices, best first
    must     indices taken whatever they cost, before all others
    budget   the final budget, and what the coarse step may keep beyond it

    Goes on as long as what is taken could not use up the final budget, so that it can be met.
    """
    final, coarse = budget
    limit = coarse.apply(final)
    taken = sorted(must)
    total = sum(costs[index] for index in taken)
    for index in order:
        if index in must:
            continue
        if total >= final and total + costs[index] > limit:
            break
        taken.append(index)
        total += costs[index]
    return sorted(taken)


def stepped(rate: float) -> float:
    """`rate` down to the nearest step: prompts that differ a little in length then ask the model the same questions."""
    fraction, exponent = math.frexp(rate)
    return math.ldexp(math.floor(fraction * RATE_STEPS) / RATE_STEPS, exponent)
