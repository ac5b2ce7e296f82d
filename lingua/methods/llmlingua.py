"""LLMLingua (arXiv 2310.05736): budget controller (4.1) and iterative token-level compression (4.2).

Departs from the paper where its formulas do not add up (see `shares`), in the unit of selection (`unit: token` is the
paper's) and in that each segment keeps the k most surprising units of its budget instead of all above a threshold
(`compress_iteratively`). The peer's sentence filter may run between the two steps. Distribution alignment (4.3)
happens before: it trains the model that is used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lingua.budget.draft import Draft, PromptPart
from lingua.budget.selection import choose
from lingua.budget.shares import coarse_choice, optional_rate, shares, stepped
from lingua.config import CompressionConfig, ContextBudget
from lingua.engine.score import Context, Program, Score, Surprisal
from lingua.text.sentences import sentence_edges
from lingua.text.units import Bools, unit_scores

_FILTER = "use_sentence_level_filter"
READS = {
    **dict.fromkeys(("aggregate", "iterative_size"), ""),
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

    def __init__(self, part: PromptPart, surprisal: Surprisal, config: CompressionConfig) -> None:
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


def compress_iteratively(draft: Draft, rates: Mapping[int, float]) -> Program[None]:
    """Algorithm 2 over all parts; `rates` are those of `part_rates`. A part at rate 1 is read as it stands, uncut."""
    context, commit = Context(draft.head, room=kept_tokens(draft, rates)), list[int]()
    separator = draft.ids(draft.prompt.separator)
    allowance = 0.0
    for part, first in draft.stream():
        commit += [] if first else separator
        rate = rates[id(part)]
        if rate == 1:
            commit += part.kept_ids(0, len(part.keep))
            continue
        for begin, end in segments(part, draft.config.segment_tokens):
            probe = part.kept_ids(begin, end)
            (surprisal,) = yield [Score(context, probe, commit)]
            _note(part, (begin, end), surprisal)
            allowance = keep_range(part, (begin, end), (rate, allowance), draft.config)
            commit = part.kept_ids(begin, end)


def kept_tokens(draft: Draft, rates: Mapping[int, float]) -> int:
    """About how many tokens the context grows to: what is kept until the last part that is cut, and one segment."""
    separator = len(draft.ids(draft.prompt.separator))
    read, most = float(len(draft.head)), 0.0
    for part, first in draft.stream():
        rate, cost = rates[id(part)], part.cost
        kept = part.must_cost + rate * (cost - part.must_cost) if rate < 1 else cost
        read += (0 if first else separator) + len(part.encoding) * kept / max(1, int(part.costs.sum()))
        most = most if rate == 1 else read + draft.config.segment_tokens
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
    edges = np.searchsorted(part.starts, np.linspace(0, tokens, number + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], edges, [len(part.starts) - 1]]))
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _note(part: PromptPart, units: tuple[int, int], surprisal: Surprisal) -> None:
    """Write down the surprisal of the kept tokens among units [begin, end)."""
    begin, end = units
    tokens = slice(part.starts[begin], part.starts[end])
    part.surprisal[tokens][_kept_tokens(part, units)] = surprisal


def _kept_tokens(part: PromptPart, units: tuple[int, int]) -> Bools:
    """Which tokens of the units [begin, end) are kept so far."""
    begin, end = units
    return np.repeat(part.keep[begin:end], part.starts[begin + 1 : end + 1] - part.starts[begin:end])


def keep_range(
    part: PromptPart, units: tuple[int, int], budget: tuple[float, float], config: CompressionConfig
) -> float:
    """Of the units [begin, end) that are still kept, keep the best that their rate and what was left over allow.

    budget   the rate of the optional tokens, and the allowance in target tokens that comes on top
    Returns the allowance left over.
    """
    begin, end = units
    rate, allowance = budget
    starts, costs = part.starts[begin : end + 1], part.costs[begin:end]
    keep, must = part.keep[begin:end], part.must[begin:end]
    alive = keep.copy()
    must_cost = costs[must].sum()
    allowance += must_cost + rate * (costs[alive].sum() - must_cost)
    scores = unit_scores(part.surprisal[starts[0] : starts[-1]], starts - starts[0], config.unit_score)
    keep[alive] = choose(scores[alive], costs[alive], must[alive], allowance)
    return float(allowance - costs[keep].sum())
