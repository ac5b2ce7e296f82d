"""Iterative token-level compression: section 4.2 of arXiv 2310.05736, shared by LLMLingua and LongLLMLingua.

The prompt is read segment by segment; each is scored given the *compressed* ones before it (5) and keeps its share
(6, 7). Segments do not cross from one part of the prompt into the next. What a segment leaves over, the next may use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lingua.budget import optional_rate, shares, stepped
from lingua.config import CompressionConfig
from lingua.draft import Draft, Part
from lingua.score import Context, Program, Score, Surprisal
from lingua.select import choose
from lingua.units import Bools, unit_scores

READS = {"aggregate": "", "iterative_size": "", "reuse_keys": ""}


def compress_iteratively(draft: Draft, rates: Mapping[int, float]) -> Program[None]:
    """Algorithm 2 over all parts; `rates` are those of `part_rates`. A part at rate 1 is read as it stands, uncut."""
    context, commit = Context(draft.head, room=kept_tokens(draft, rates)), list[int]()
    reuse: list[int] | None = [] if draft.config.reuse_keys else None
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
            (surprisal,) = yield [Score(context, probe, commit, reuse)]
            _note(part, (begin, end), surprisal)
            read = _kept_tokens(part, (begin, end))
            allowance = keep_range(part, (begin, end), (rate, allowance), draft.config)
            commit = part.kept_ids(begin, end)
            if reuse is not None:
                reuse = np.flatnonzero(_kept_tokens(part, (begin, end))[read]).tolist()


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


def segments(part: Part, size: int) -> Iterator[tuple[int, int]]:
    """Unit ranges of about `size` tokens, equally long, each of at least one unit."""
    tokens = int(part.starts[-1])
    number = max(1, -(-tokens // size))
    edges = np.searchsorted(part.starts, np.linspace(0, tokens, number + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], edges, [len(part.starts) - 1]]))
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _note(part: Part, units: tuple[int, int], surprisal: Surprisal) -> None:
    """Write down the surprisal of the kept tokens among units [begin, end)."""
    begin, end = units
    tokens = slice(part.starts[begin], part.starts[end])
    part.surprisal[tokens][_kept_tokens(part, units)] = surprisal


def _kept_tokens(part: Part, units: tuple[int, int]) -> Bools:
    """Which tokens of the units [begin, end) are kept so far."""
    begin, end = units
    return np.repeat(part.keep[begin:end], part.starts[begin + 1 : end + 1] - part.starts[begin:end])


def keep_range(part: Part, units: tuple[int, int], budget: tuple[float, float], config: CompressionConfig) -> float:
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
