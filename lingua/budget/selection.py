"""Scores and a budget → keep mask. Surprisal of token i decides about token i (arXiv 2310.05736, formula 7).

`choose` keeps the highest-scored units that fit a budget in tokens. `keep_best` does so for a whole prompt in one step,
for methods that score all tokens before they choose: as single units, or in pieces that can still be read
(`keep_within`): whole sentences for most of the budget, then phrases, then units. A model reads an answer where it
stands in a sentence, and finds more answers where words compete; so the budget is shared (`coherence`).

`fit` settles the exact budget: counts are not additive (what was cut changes how the rest is tokenized), so the count
of the whole text decides.

How many tokens each part may keep are formulas 2 and 3 (section 4.1). Taken literally they do not add up: (6) thins
demonstrations that the coarse step has thinned already, and (3) hands out coarse tokens as if they were final. Here
the budget is a promise: what instruction, chosen demonstrations and question may keep adds up to the target (`shares`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingua.budget.draft import Draft, PromptPart
from lingua.prompt import CompressedPrompt
from lingua.shared import ContextBudget, SharedSettings, Unit
from lingua.text.sentences import phrase_edges, sentence_edges
from lingua.text.tokens import Ints
from lingua.text.units import Bools, Floats

ENOUGH = 0.95
"""Share of the target below which units at the margin are cut finer."""
_TRIES = 10
"""Exact counts of the text spent on finding the margin."""
_FILLS = 30
"""Exact counts spent on filling what is left."""
_FINER: dict[Unit, Unit] = {"sentence": "word", "phrase": "word"}


RATE_STEPS = 64
"""Of a shared rate's binary fraction: the step is 1.6% to 3.1% of the rate."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Final target tokens of the three components; `demonstrations` is shared by all chosen ones."""

    instruction: float
    demonstrations: float
    question: float


def shares(draft: Draft) -> Shares:
    """Split the target between the components.

    (2) gives the demonstrations what instruction and question leave at their own rates; (3) returns what exceeds the
    chosen demonstrations to instruction and question, in proportion to their lengths and up to all of each.
    """
    config = draft.config
    instruction = draft.instruction.at_rate(config.instruction_rate)
    question = draft.question.at_rate(config.question_rate)
    chosen = [draft.context[index] for index in draft.chosen]
    own = sum(part.at_rate(part.rate) for part in chosen if part.rate is not None)
    demonstrations = max(0.0, draft.room - instruction - question - own)
    unused = demonstrations - sum(part.cost for part in chosen if part.rate is None)
    if unused > 0:
        lengths = max(1, draft.instruction.cost + draft.question.cost)
        instruction = min(draft.instruction.cost, instruction + unused * draft.instruction.cost / lengths)
        question = min(draft.question.cost, question + unused * draft.question.cost / lengths)
        demonstrations -= unused
    return Shares(instruction, demonstrations, question)


def optional_rate(parts: list[PromptPart], budget: float) -> float:
    """The share of their optional tokens that `parts` may keep, once what must be kept is paid for; in [0, 1]."""
    must = sum(part.must_cost for part in parts)
    optional = sum(part.cost for part in parts) - must
    return min(1.0, max(0.0, (budget - must) / optional)) if optional else 1.0


def stepped(rate: float) -> float:
    """`rate` down to the nearest step: prompts that differ a little in length then ask the model the same questions."""
    fraction, exponent = math.frexp(rate)
    return math.ldexp(math.floor(fraction * RATE_STEPS) / RATE_STEPS, exponent)


def coarse_choice(
    costs: list[int], order: list[int], required: set[int], budgets: tuple[float, ContextBudget]
) -> list[int]:
    """Algorithm 1: take strings in `order` until the next would exceed the coarse budget; their indices, ascending.

    costs      target tokens of every string
    order      indices, best first
    required   indices taken whatever they cost, before all others
    budgets    the final budget, and what the coarse step may keep beyond it

    Goes on as long as what is taken could not use up the final budget, so that it can be met.
    """
    final, coarse = budgets
    limit = coarse.apply(final)
    taken = sorted(required)
    total = sum(costs[index] for index in taken)
    for index in order:
        if index in required:
            continue
        if total >= final and total + costs[index] > limit:
            break
        taken.append(index)
        total += costs[index]
    return sorted(taken)


def choose(scores: Floats, costs: Ints, must: Bools, budget: float) -> Bools:
    """Keep mask [u]: all of `must`, then the highest scores that fit into `budget` tokens altogether.

    Ties go to the earlier unit. A unit that does not fit is passed over for later ones that do.
    """
    keep = must.copy()
    left = budget - costs[must].sum()
    order = np.flatnonzero(~must)[np.argsort(-scores[~must], kind="stable")]
    total = np.cumsum(costs[order])
    fitting = int(np.searchsorted(total, left, side="right"))
    keep[order[:fitting]] = True
    left -= total[fitting - 1] if fitting else 0
    for unit in order[fitting:][costs[order[fitting:]] <= left]:
        if costs[unit] <= left:
            keep[unit] = True
            left -= costs[unit]
    return keep


def settle(draft: Draft) -> CompressedPrompt:
    """The result of what a method chose, within its budget if it has one."""
    return draft.finish() if draft.config.open_ended else fit(draft)


def fit(draft: Draft) -> CompressedPrompt:
    """Drop or add units at the margin until the text holds as many target tokens as it may, and return the result.

    Where whole sentences or phrases leave more than 5% of the target unused, the dropped ones are cut into words, and
    the most surprising ones fill it; a word is never cut. If what must be kept exceeds the target, only that is kept,
    and of a prompt of which no unit fits the shortest one: ``over_budget``.
    """
    unit: Unit | None = draft.config.unit
    while unit is not None:
        margin = _Margin.of(draft)
        if not margin.settle():
            return draft.finish("over_budget")
        unit = _FINER.get(unit) if margin.count < ENOUGH * draft.target_tokens and not margin.exhausted else None
        if unit is not None:
            draft = draft.finer(unit)
    if margin.keep_something():
        return draft.finish("over_budget")
    return draft.finish()


@dataclass(slots=True, eq=False)
class _Margin:
    """All optional units of a draft in the order in which they are kept: a prefix of that order is kept.

    parts [p]        what may be cut, with its optional units and the rank of each in the order
    place [m, 2]     part and unit at each rank
    cost [m]         target tokens of the unit at each rank
    """

    draft: Draft
    parts: list[tuple[PromptPart, Ints, Ints]]
    place: Ints
    cost: Ints
    kept: int
    count: int = 0

    @classmethod
    def of(cls, draft: Draft) -> _Margin:
        parts = draft.flexible
        optional = [np.flatnonzero(~part.must) for part in parts]
        pairs = list(zip(parts, optional, strict=True))
        scores = _gather([part.scores(draft.config)[units] for part, units in pairs])
        kept = _gather([part.keep[units] for part, units in pairs]).astype(bool)
        order = np.lexsort((-scores, ~kept))
        ranks = np.split(np.argsort(order), np.cumsum([len(units) for units in optional])[:-1])
        number = np.repeat(np.arange(len(parts)), [len(units) for units in optional])
        place = np.stack([number, _gather(optional)], axis=1).astype(np.int64)[order]
        cost = _gather([part.costs[units] for part, units in pairs]).astype(np.int64)[order]
        ranked = [(part, units, rank) for (part, units), rank in zip(pairs, ranks, strict=False)]
        return cls(draft, ranked, place, cost, int(kept.sum()))

    @property
    def exhausted(self) -> bool:
        return self.kept == len(self.cost)

    def settle(self) -> bool:
        """Find a longest prefix within the target, then fill the rest; False if even nothing optional is too much."""
        seen: dict[int, int] = {}
        for attempt in range(_TRIES):
            self._apply(self.kept)
            seen[self.kept] = self.count
            fits = max((kept for kept, count in seen.items() if count <= self.draft.target_tokens), default=-1)
            over = min((kept for kept in seen if kept > fits), default=len(self.cost) + 1)
            if self._enough() or over - fits <= 1:
                break
            guess = (fits + over) // 2 if attempt % 3 == 2 else self._guess(seen)
            self.kept = min(max(guess, fits + 1), over - 1)
        if self.kept != fits:
            self._apply(max(0, fits))
        if self.slack < 0:
            return False
        self._fill()
        return True

    def keep_something(self) -> bool:
        """Keep the best of the shortest units if the result would be empty and the prompt is not; whether it was so."""
        if self.draft.text().strip():
            return False
        for rank in np.argsort(self.cost, kind="stable").tolist():
            number, unit = self.place[rank].tolist()
            part = self.parts[number][0]
            part.keep[unit] = bool(part.text[part.bounds[unit] : part.bounds[unit + 1]].strip())
            if part.keep[unit]:
                return True
        return False

    def _guess(self, seen: dict[int, int]) -> int:
        """The prefix that should meet the target, if counts grow with costs as between the two last ones seen."""
        total = np.concatenate([[0], np.cumsum(self.cost)])
        before, count = list(seen.items())[-2] if len(seen) > 1 else (0, 0)
        slope = (self.count - count) / (int(total[self.kept] - total[before]) or 1)
        wanted = total[self.kept] + self.slack / (slope if slope > 0 else 1)
        return int(np.searchsorted(total, wanted, side="right")) - 1

    @property
    def slack(self) -> int:
        return self.draft.target_tokens - self.count

    def _apply(self, kept: int) -> None:
        for part, units, rank in self.parts:
            part.keep = part.must.copy()
            part.keep[units] = rank < kept
        self.kept = kept
        self.count = self.draft.count()

    def _fill(self) -> None:
        """Add single later units that still fit, best first."""
        tries = 0
        for rank in self.kept + np.flatnonzero(self.cost[self.kept :] <= self.slack):
            if tries == _FILLS or self._enough():
                return
            if self.cost[rank] <= self.slack:
                tries += 1
                self._try(*self.place[rank])

    def _try(self, number: int, unit: int) -> None:
        keep = self.parts[number][0].keep
        keep[unit] = True
        count = self.draft.count()
        if count > self.draft.target_tokens:
            keep[unit] = False
        else:
            self.count = count

    def _enough(self) -> bool:
        """Long texts need not be settled to the last token: each try counts the whole text again."""
        return 0 <= self.slack <= self.draft.target_tokens // 500


def _gather(arrays: list[Any]) -> Any:
    return np.concatenate(arrays) if arrays else np.zeros(0)


@dataclass(slots=True, eq=False)
class _Competition:
    """The units of several parts: evidence and target tokens of each [u], and which are kept."""

    parts: Sequence[PromptPart]
    evidence: Floats
    costs: Ints
    keep: Bools

    @classmethod
    def of(cls, parts: Sequence[PromptPart], config: SharedSettings) -> _Competition:
        scores = np.concatenate([part.scores(config) for part in parts])
        return cls(
            parts, scores, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("costs", "must"))
        )

    def groups(self, edges: list[Ints]) -> Ints:
        """Which group each unit [u] belongs to, if groups begin at these characters of each part."""
        numbers, count = [], 0
        for part, begins in zip(self.parts, edges, strict=True):
            numbers.append(count + part.group(begins))
            count += max(1, len(begins))
        return np.concatenate(numbers)

    def take(self, group: Ints, weights: Ints, budget: float) -> None:
        """Complete the groups of most evidence per weight among their missing units, as far as the budget goes."""
        number = int(group.max(initial=-1)) + 1
        missing = ~self.keep
        costs = np.bincount(group, self.costs * missing, number)
        weight = np.bincount(group, weights * missing, number)
        value = (np.bincount(group, self.evidence * missing, number) / np.maximum(1, weight)).astype(np.float32)
        left = budget - self.costs[self.keep].sum()
        self.keep |= choose(value, costs, np.zeros(number, bool), left)[group]


def keep_best(draft: Draft) -> None:
    """Set every part's keep mask from its tokens' evidence (`Part.surprisal`)."""
    budget = shares(draft)
    chosen = [draft.context[index] for index in draft.chosen]
    keep_within(draft, [draft.instruction], budget.instruction)
    keep_within(draft, [part for part in chosen if part.rate is None], budget.demonstrations)
    keep_within(draft, [draft.question], budget.question)
    for part in chosen:
        if part.rate is not None:
            keep_within(draft, [part], part.at_rate(part.rate))


def keep_within(draft: Draft, parts: Sequence[PromptPart], budget: float) -> None:
    """Keep the best of all `parts` together that fits into `budget` target tokens: in coherent pieces or as it is."""
    parts = [part for part in parts if not part.whole]
    if not parts:
        return
    pool, share = _Competition.of(parts, draft.config), draft.config.own.coherent_share
    if share:
        sentences = pool.groups([sentence_edges(part.text) for part in parts])
        phrases = pool.groups([phrase_edges(part.text) for part in parts])
        pool.take(sentences, np.ones_like(sentences), share * budget)
        pool.take(phrases, pool.costs, budget)
        pool.take(np.arange(len(pool.keep)), pool.costs, budget)
    else:
        pool.keep = choose(pool.evidence, pool.costs, pool.keep, budget)
    ends = np.cumsum([len(part.keep) for part in parts])[:-1]
    for part, keep in zip(parts, np.split(pool.keep, ends), strict=True):
        part.keep = keep
