"""Scores and a budget → keep mask. Surprisal of token i decides about token i (arXiv 2310.05736, formula 7).

`choose` keeps the highest-scored units that fit a budget in tokens. `keep_best` does so for a whole prompt in one step,
for methods that score all tokens before they choose: as single units, or in pieces that can still be read
(`keep_within`): whole sentences for most of the budget (`coherence`), then whole clauses, and nothing smaller.

`fit` settles the exact budget: counts are not additive (what was cut changes how the rest is tokenized), so the count
of the whole text decides.

How many tokens each part may keep are formulas 2 and 3 (section 4.1). Taken literally they do not add up: (6) thins
demonstrations that the coarse step has thinned already, and (3) hands out coarse tokens as if they were final. Here
the budget is a promise: what instruction, chosen demonstrations and question may keep adds up to the target (`shares`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from lingua.budget.draft import Draft, PromptPart
from lingua.budget.pieces import PieceGroups
from lingua.prompt import Bools, CompressedPrompt, Floats, Ints
from lingua.shared import SharedSettings, Unit
from lingua.text.salience import token_facts
from lingua.text.units import beginning

LITTLE = 0.5
"""Share of the target below which the beginning of a clause is kept for want of whole ones."""
LONG = 8
"""Tokens of a unit that count at most: an address or a checksum is one thing, however long."""
ENOUGH = 0.95
"""Share of the target below which units at the margin are cut finer."""
_TRIES, _FILLS = 10, 30
"""Exact counts of the text spent on finding the margin, and on filling what is left."""
_FINER: dict[Unit, Unit] = {"sentence": "word", "phrase": "word"}


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


def choose(scores: Floats, costs: Ints, must: Bools, budget: float) -> Bools:
    """Keep mask [u]: all of `must`, then the highest scores that fit into `budget` tokens altogether.

    Ties go to the earlier unit. A unit that does not fit is passed over for later ones that do.
    """
    keep = must.copy()
    left = budget - costs @ must
    optional = (~must).nonzero()[0]
    order = optional[(-scores[optional]).argsort(kind="stable")]
    total = costs[order].cumsum()
    fitting = int(total.searchsorted(left, side="right"))
    keep[order[:fitting]] = True
    left -= total[fitting - 1] if fitting else 0
    for unit in order[fitting:][costs[order[fitting:]] <= left].tolist():
        if costs[unit] <= left:
            keep[unit] = True
            left -= costs[unit]
    return keep


def settle(draft: Draft) -> CompressedPrompt:
    """The result of what a method chose, within its budget if it has one."""
    return draft.finish() if draft.config.open_ended else fit(draft)


def fit(draft: Draft) -> CompressedPrompt:
    """Drop or add units at the margin until the text holds as many target tokens as it may, and return the result.

    Where sentences or phrases as units leave more than 5% of the target unused, the dropped ones are cut into words,
    and the most surprising ones fill it; a word is never cut. What coherent pieces leave unused stays so, unless it is
    more than half of the target: then the beginning of the best clause fills it. If what must be kept exceeds the
    target, only that is kept, and where no unit fits, the shortest one, or a short clause: ``over_budget``.
    """
    unit: Unit | None = draft.config.unit
    while unit is not None:
        margin = _Margin.of(draft)
        if not margin.settle():
            return replace(margin.left, status="over_budget")
        short = margin.left.compressed_tokens < ENOUGH * draft.target_tokens and margin.kept < margin.most
        unit = _FINER.get(unit) if short and not draft.config.own.coherent_share else None
        if unit is not None:
            draft = draft.finer(unit)
    if draft.config.own.coherent_share and margin.left.compressed_tokens < LITTLE * draft.target_tokens:
        margin.begin()
    return margin.something()


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    """What of a part is kept or dropped as one [i]: its optional units [u], and the item `owner` [u] of each."""

    units: Ints
    owner: Ints
    first: Ints
    cost: Ints
    score: Floats
    kept: Bools
    wanted: Bools  # whether it says something, so that it may fill what is left of a budget

    @classmethod
    def of(cls, part: PromptPart, config: SharedSettings) -> _Items:
        units = (~part.must).nonzero()[0]
        scores, costs, keep = part.scores(config)[units], part.costs[units], part.keep[units]
        if part.pieces is None:
            return cls(units, np.arange(len(units)), units, costs, scores, keep, np.ones(len(units), bool))
        number = part.pieces.clause[units]
        sizes = np.bincount(number)
        clause, place = sizes.nonzero()[0], (sizes > 0).cumsum() - 1
        owner, first = place[number], np.zeros(len(clause), np.int64)
        first[owner[::-1]] = units[::-1]
        cost = np.bincount(owner, costs).astype(np.int64)
        score = (np.bincount(owner, scores * costs) / np.maximum(1, cost)).astype(np.float32)
        kept = np.bincount(owner, keep) == sizes[clause]
        sentence, held = part.pieces.sentence[first], cost * kept
        mean = (np.bincount(sentence, held * score) / np.maximum(1, np.bincount(sentence, held)))[sentence]
        score = np.where(held > 0, np.maximum(score, mean), score).astype(np.float32)  # so a sentence stays complete
        needed = part.pieces.host[clause]
        host, hosted = place[needed], ((needed != clause) & (sizes[needed] > 0)).nonzero()[0]
        for item in hosted[kept[hosted]][::-1].tolist():
            score[host[item]] = max(score[item], score[host[item]])
        for item in hosted[~kept[hosted]].tolist():
            score[item] = min(score[item], score[host[item]])
        return cls(units, owner, first, cost, score, kept, kept | (score > 0))


@dataclass(slots=True, eq=False)
class _Margin:
    """What is optional of a draft, units or whole clauses, in the order in which it is kept: a prefix is kept."""

    draft: Draft
    parts: list[tuple[PromptPart, Ints, Ints]]  # what may be cut, with its optional units and the rank of each
    place: Ints  # the part of what stands at each rank [m]
    first: Ints  # its first unit
    cost: Ints  # its target tokens
    kept: int  # how many of the first ranks are kept
    most: int  # how many may be
    left: CompressedPrompt = field(init=False)  # the result, as things stand
    seen: dict[int, CompressedPrompt] = field(default_factory=dict)  # that of each number of ranks that was tried

    @classmethod
    def of(cls, draft: Draft) -> _Margin:
        parts = draft.flexible
        found = [_Items.of(part, draft.config) for part in parts]
        kept, wanted = (_gather([getattr(one, name) for one in found]).astype(bool) for name in ("kept", "wanted"))
        order = np.lexsort((-_gather([one.score for one in found]), ~wanted, ~kept))
        sizes = [len(one.cost) for one in found]
        ranks = np.split(order.argsort(), np.cumsum(sizes)[:-1])
        number = np.repeat(np.arange(len(parts)), sizes)
        cost = _gather([one.cost for one in found]).astype(np.int64)[order]
        ranked = [(part, one.units, rank[one.owner]) for part, one, rank in zip(parts, found, ranks, strict=False)]
        first = _gather([one.first for one in found]).astype(np.int64)[order]
        return cls(draft, ranked, number[order], first, cost, int(kept.sum()), int(wanted.sum()) or len(cost))

    def settle(self) -> bool:
        """Find a longest prefix within the target, then fill the rest; False if even nothing optional is too much."""
        for attempt in range(_TRIES):
            self._apply(self.kept)
            tried = ((kept, left.compressed_tokens) for kept, left in self.seen.items())
            fits = max((kept for kept, count in tried if count <= self.draft.target_tokens), default=-1)
            over = min((kept for kept in self.seen if kept > fits), default=self.most + 1)
            if self._enough() or over - fits <= 1:
                break
            guess = (fits + over) // 2 if attempt % 3 == 2 else self._guess()
            self.kept = min(max(guess, fits + 1), over - 1)
        self._apply(max(0, fits))
        if self.slack >= 0:
            self._fill()
        return self.slack >= 0

    def something(self) -> CompressedPrompt:
        """The result; with the best of what is shortest, or its beginning, where it would be empty for no reason."""
        if self.left.text.strip():
            return self.left
        self._apply(0)
        idle = np.arange(len(self.cost)) >= self.most
        for rank in np.lexsort((self.cost, ~self._understood(), idle)).tolist():
            part, first = self.parts[self.place[rank]][0], int(self.first[rank])
            if part.text[part.bounds[first] : part.bounds[first + 1]].strip():
                units = self._at(rank)[1]
                must, part.must = part.must, part.must.copy()  # or it is not shown, where it heads others
                few = None if len(units) <= LONG else beginning(part.text, part.bounds, units, LONG) or 1
                part.must[units[:few]] = part.keep[units[:few]] = True
                self.left = self.draft.finish("over_budget")
                part.must = must
                break
        return self.left

    def begin(self) -> None:
        """Keep as much of the beginning of the best dropped clause as still fits, if that says something.

        Of one that needs what is dropped, such as an answer, only where nothing else would be left.
        """
        if empty := not self.left.text.strip():  # what is kept heads nothing
            self._apply(0)
        clear, dropped = self._understood(), range(self.kept, self.most)
        others = [rank for rank in dropped if empty and not clear[rank]]
        ranked = (self._at(rank) for rank in [*(rank for rank in dropped if clear[rank]), *others])
        told = ((one, its) for one, its in ranked if one.scores(self.draft.config)[its].any() > one.keep[its].any())
        for part, units in islice(told, _TRIES):
            few, many = 0, len(units)
            while many - few > 1:
                middle = (few + many) // 2
                part.keep[units] = np.arange(len(units)) < middle
                self.left = self.draft.finish()
                few, many = (middle, many) if self.slack >= 0 else (few, middle)
            for count in (found := beginning(part.text, part.bounds, units, few), found and few):
                part.keep[units] = np.arange(len(units)) < count
                self.left = self.draft.finish()
                if count and (self.slack >= 0 or count == few):  # fewer units can be more tokens
                    return

    def _guess(self) -> int:
        """The prefix that should meet the target, if counts grow with costs as between the two last ones seen."""
        total = np.concatenate([[0], self.cost.cumsum()])
        before = [0, *self.seen][-2]
        count = self.seen[before].compressed_tokens if len(self.seen) > 1 else 0
        slope = (self.left.compressed_tokens - count) / (int(total[self.kept] - total[before]) or 1)
        wanted = total[self.kept] + self.slack / (slope if slope > 0 else 1)
        return int(total.searchsorted(wanted, side="right")) - 1

    @property
    def slack(self) -> int:
        return self.draft.target_tokens - self.left.compressed_tokens

    def _apply(self, kept: int) -> None:
        for part, units, rank in self.parts:
            part.keep = part.must.copy()
            part.keep[units] = rank < kept
        if kept not in self.seen:
            self.seen[kept] = self.draft.finish()
        self.kept, self.left = kept, self.seen[kept]

    def _fill(self) -> None:
        """Add single later units that still fit, best first."""
        tries = 0
        for rank in (self.kept + (self.cost[self.kept : self.most] <= self.slack).nonzero()[0]).tolist():
            if tries == _FILLS or self._enough():
                return
            part, units = self._at(rank)
            if self.cost[rank] <= self.slack and (part.pieces is None or part.pieces.hosted(units[0], part.keep)):
                tries += 1
                part.keep[units] = True
                left = self.draft.finish()
                if left.compressed_tokens > self.draft.target_tokens:
                    part.keep[units] = False
                else:
                    self.left = left

    def _at(self, rank: int) -> tuple[PromptPart, Ints]:
        """The part and the units at a rank."""
        part, units, ranks = self.parts[self.place[rank]]
        return part, units[ranks == rank]

    def _understood(self) -> Bools:
        """Whether what stands at each rank [m] can be read with what is kept."""
        clear = [part.pieces.understood(part.keep) if part.pieces else part.keep | True for part, *_ in self.parts]
        begins = np.cumsum([0, *map(len, clear)])[:-1]
        return np.asarray(np.concatenate(clear)[begins[self.place] + self.first], bool)

    def _enough(self) -> bool:
        """Long texts need not be settled to the last token: each try counts the whole text again."""
        return 0 <= self.slack <= self.draft.target_tokens // 500


def _gather(arrays: list[Any]) -> Any:
    return np.concatenate(arrays) if arrays else np.zeros(0)


@dataclass(slots=True, eq=False)
class _Competition:
    """The units of several parts: worth and target tokens of each [u], which are kept, and the fact each belongs to."""

    parts: Sequence[PromptPart]
    worth: Floats
    costs: Ints
    keep: Bools
    facts: Ints

    @classmethod
    def of(cls, parts: Sequence[PromptPart], config: SharedSettings) -> _Competition:
        scores = np.concatenate([part.scores(config) for part in parts])
        costs, must = (np.concatenate([getattr(part, name) for part in parts]) for name in ("costs", "must"))
        weighed = config.own.coherent_share and config.own.unit_score != "sum"
        worth = scores * np.minimum(costs, LONG) if weighed else scores
        return cls(parts, worth, costs, must, np.concatenate([part.unit_facts for part in parts]))

    def groups(self, names: tuple[str, str]) -> tuple[Ints, Ints]:
        """Which clause or sentence each unit [u] belongs to, numbered through all parts; and the host of each [g]."""
        numbers, hosts, count = [], [], 0
        for part in self.parts:
            alone = np.zeros(len(part.keep), np.int64), np.zeros(1, np.int64)
            own, host = (getattr(part.pieces, name) for name in names) if part.pieces is not None else alone
            size = int(own.max(initial=-1)) + 1
            numbers.append(count + own)
            hosts.append(count + host[:size])
            count += size
        return np.concatenate(numbers), np.concatenate(hosts)

    def take(self, names: tuple[str, str], share: float, budget: float) -> None:
        """Complete the groups that are worth most for their missing tokens, as far as a share of the budget goes.

        The best may have all of it: in a short text the sentence that answers can be longer."""
        group, host = self.groups(names)
        spent = self.costs[self.keep].sum()
        groups = PieceGroups.of(group, host, self.keep, (self.worth, self.costs, self.facts))
        groups.take(max(0, int(share * budget - spent)), int(budget - spent))
        self.keep |= np.asarray(groups.kept, bool)[group]


def keep_best(draft: Draft) -> None:
    """Set every part's keep mask from its tokens' evidence (`PromptPart.token_scores`)."""
    if draft.config.own.covers(draft.prompt.question):
        known: dict[str, int] = {}
        for part in draft.flexible:
            part.facts = token_facts(part.encoding, known)
    budget = shares(draft)
    chosen = [draft.context[index] for index in draft.chosen]
    keep_within(draft, [draft.instruction], budget.instruction)
    keep_within(draft, [part for part in chosen if part.rate is None], budget.demonstrations)
    keep_within(draft, [draft.question], budget.question)
    for part in chosen:
        if part.rate is not None:
            own = part.at_rate(part.rate)
            keep_within(draft, [part], own)
            _begin(part, own, draft.config)


def _begin(part: PromptPart, budget: float, config: SharedSettings) -> None:
    """Hold the beginning of the best main clause of a part with a budget of its own, of which little would be used."""
    used = int(part.costs @ part.keep)
    if part.pieces is None or part.whole or used >= LITTLE * budget:
        return
    score, clause = part.scores(config), part.pieces.clause
    mains = np.flatnonzero(~part.keep & (part.pieces.host[clause] == clause))
    units = np.flatnonzero(clause == clause[mains[np.argmax(score[mains])]]) if len(mains) else mains
    fitting = int(np.sum(used + np.cumsum(part.costs[units]) <= budget))
    part.must[units[: beginning(part.text, part.bounds, units, fitting)]] = True
    part.keep |= part.must


def keep_within(draft: Draft, parts: Sequence[PromptPart], budget: float) -> None:
    """Keep the best of all `parts` together that fits into `budget` target tokens: in coherent pieces or as it is."""
    parts = [part for part in parts if len(part.keep) and not part.whole]
    if not parts:
        return
    pool, share = _Competition.of(parts, draft.config), draft.config.own.coherent_share
    if share:
        pool.take(("sentence", "needs"), share, budget)
        pool.take(("clause", "host"), 1, budget)
    else:
        pool.keep = choose(pool.worth, pool.costs, pool.keep, budget)
    ends = np.cumsum([len(part.keep) for part in parts])
    for part, keep in zip(parts, np.split(pool.keep, ends[:-1]), strict=True):
        part.keep = keep
