"""Clauses and sentences of a part: what coherent methods keep or drop as a whole, and how a cut sentence is closed.

Of a sentence any clauses may go; between two kept spans that were not neighbours a mark of punctuation always stands.
A kept clause has its own; where the rest of its sentence is dropped, the mark that ends the sentence takes its place.
So no two spans run into a sentence that the text does not say, and nothing is written that the text does not have.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from lingua.text.sentences import clause_edges, closing_marks, sentence_edges
from lingua.text.tokens import Ints
from lingua.text.units import Bools, Floats
from lingua.text.words import are

NEW, REPEATED = 6.0, 0.3
"""What the first mention of a name or number counts, and a later one: of its evidence."""
MANY = 200
"""PieceGroups from which on none is exchanged."""
EXCHANGES = 30
"""PieceGroups that are exchanged for better ones at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The clause and the sentence of each unit [u], and which units close them.

    separates [u]    the mark that closes a clause, as a unit of its own
    ends [u]         the mark that ends a sentence, as a unit of its own
    marked [u]       whether a unit's last character is a mark of punctuation
    """

    clause: Ints
    sentence: Ints
    separates: Bools
    ends: Bools
    marked: Bools

    @classmethod
    def of(cls, text: str, bounds: Ints, whole: bool) -> Pieces:
        """Of units that begin at `bounds` [u + 1]: at `piece_edges` at least. `whole`: no sentence has clauses."""
        sentences = sentence_edges(text)
        clauses = sentences if whole else clause_edges(text, sentences)
        separating, ending = closing_marks(text, clauses, sentences)
        begins, behind = bounds[:-1], bounds[1:]
        closes = np.isin(behind, [*clauses, len(text)])
        return cls(
            np.searchsorted(clauses, begins, side="right") - 1,
            np.searchsorted(sentences, begins, side="right") - 1,
            np.isin(begins, separating) & closes,
            np.isin(begins, ending) & closes,
            are(r"\p{P}", text)[behind - 1],
        )

    def closed(self, keep: Bools, must: Bools) -> Bools:
        """The mask `keep` [u] with the mark that ends a sentence wherever its last clause is cut off or dropped."""
        kept = np.flatnonzero(keep)
        if not len(kept):
            return keep
        sentence = self.sentence[kept]
        last = kept[np.flatnonzero(np.append(sentence[1:] != sentence[:-1], True))]
        final = np.searchsorted(self.sentence, self.sentence[last], side="right") - 1
        open_ended = self.ends[final] & (last != final) & ~must[last] & (self.separates | ~self.marked)[last]
        last, final = last[open_ended], final[open_ended]
        shown = keep.copy()
        shown[last[self.separates[last]]] = False
        shown[final] = True
        return shown


def piece_edges(text: str) -> Ints:
    """Characters at which sentences, clauses and the marks that close them begin, ascending."""
    sentences = sentence_edges(text)
    clauses = clause_edges(text, sentences)
    edges = np.unique(np.concatenate([clauses, *closing_marks(text, clauses, sentences)]))
    return edges[edges >= 0]


@dataclass(slots=True, eq=False)
class PieceGroups:
    """PieceGroups of units, sentences or clauses, that are kept or dropped as a whole.

    cost [g]      target tokens that its missing units add
    plain [g]     worth of its missing units, those of names and numbers as if they were repeated
    facts [g]     the distinct names and numbers of its missing units, with what each adds where it is new
    holders       how often each name or number is kept
    kept [g]      whether it is kept
    """

    cost: Ints
    plain: Floats
    facts: list[dict[int, float]]
    holders: Counter[int]
    kept: Bools

    @classmethod
    def of(cls, group: Ints, keep: Bools, units: tuple[Floats, Ints, Ints]) -> PieceGroups:
        """Of units in groups [u], some of which are kept; `units`: worth, target tokens and fact (-1: none) of each."""
        missing, number = np.flatnonzero(~keep), int(group.max(initial=-1)) + 1
        owner, (worth, costs, fact) = group[missing], (values[missing] for values in units)
        told = np.flatnonzero(fact >= 0)
        plain = np.bincount(owner, np.where(fact >= 0, REPEATED * worth, worth), number)
        facts: list[dict[int, float]] = [{} for _ in range(number)]
        for place, one, value in zip(owner[told].tolist(), fact[told].tolist(), worth[told].tolist(), strict=True):
            facts[place][one] = max(facts[place].get(one, 0.0), (NEW - REPEATED) * value)
        cost = np.bincount(owner, costs, number).astype(np.int64)
        holders = Counter(units[2][keep & (units[2] >= 0)].tolist())
        return cls(cost, plain.astype(np.float32), facts, holders, cost == 0)

    def gain(self, group: int) -> float:
        """What keeping a dropped group adds."""
        new = (value for fact, value in self.facts[group].items() if not self.holders[fact])
        return float(self.plain[group]) + sum(new)

    def loss(self, group: int) -> float:
        """What dropping a kept group takes away."""
        only = (value for fact, value in self.facts[group].items() if self.holders[fact] == 1)
        return float(self.plain[group]) + sum(only)

    def set(self, group: int, kept: bool) -> None:
        self.kept[group] = kept
        self.holders.update(dict.fromkeys(self.facts[group], 1 if kept else -1))

    def take(self, budget: int) -> int:
        """Keep the groups of most gain per token that fit into `budget`; returns the tokens used."""
        left, cost = budget, self.cost.tolist()
        waiting = [(-math.inf, number) for number in np.flatnonzero(~self.kept).tolist()]
        while waiting:
            _, number = heappop(waiting)
            if cost[number] > left:
                continue
            value = -self.gain(number) / cost[number]
            if waiting and value > waiting[0][0]:
                heappush(waiting, (value, number))
                continue
            self.set(number, True)
            left -= cost[number]
        return budget - left

    def exchange(self, left: int) -> None:
        """Keep a dropped group instead of a kept one, or besides, as long as that gains most and fits.

        Of many groups the best by gain per token leave little to gain.
        """
        if len(self.kept) > MANY:
            return
        taken = [number for number in np.flatnonzero(self.kept).tolist() if self.cost[number]]
        for _ in range(EXCHANGES):
            dropped = np.flatnonzero(~self.kept).tolist()
            if not dropped:
                return
            gains = np.asarray([self.gain(number) for number in dropped])
            losses = np.asarray([*(self.loss(number) for number in taken), 0.0])
            room = left + np.append(self.cost[taken], 0)
            better = gains[:, None] - losses[None, :]
            better[self.cost[dropped][:, None] > room[None, :]] = -math.inf
            best = int(better.argmax())
            into, out = divmod(best, len(losses))
            if better[into, out] <= 1e-9:
                return
            left = int(room[out] - self.cost[dropped[into]])
            self.set(dropped[into], True)
            if out < len(taken):
                self.set(taken.pop(out), False)
            taken.append(dropped[into])
