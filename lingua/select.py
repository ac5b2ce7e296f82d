"""Scores and a budget → keep mask. Surprisal of token i decides about token i (arXiv 2310.05736, formula 7).

`choose` keeps the k most surprising units of a segment that fit its budget in tokens. `fit` settles the whole prompt:
counts are not additive (what was cut changes how the rest is tokenized), so the exact count of the text decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lingua.config import Unit
from lingua.draft import Draft
from lingua.prompt import CompressedPrompt
from lingua.tokens import Ints
from lingua.units import Bools, Floats

ENOUGH = 0.95
"""Share of the target below which units at the margin are cut finer."""
_TRIES = 24
_FINER: dict[Unit, Unit] = {"sentence": "word", "word": "token"}


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


def fit(draft: Draft) -> CompressedPrompt:
    """Drop or add units at the margin until the text holds as many target tokens as it may, and return the result.

    Where whole units leave more than 5% of the target unused, the dropped ones are cut finer (sentence, word, token)
    and the most surprising pieces fill it. If what must be kept exceeds the target, only that is kept: ``over_budget``.
    """
    unit: Unit | None = draft.config.unit
    while unit is not None:
        margin = _Margin.of(draft)
        if not margin.settle():
            return draft.finish("over_budget")
        unit = _FINER.get(unit) if margin.count < ENOUGH * draft.target_tokens and not margin.exhausted else None
        if unit is not None:
            draft = draft.finer(unit)
    return draft.finish()


@dataclass(slots=True, eq=False)
class _Margin:
    """All optional units of a draft in the order in which they are kept: a prefix of `order` is kept.

    part, unit [m]   where each stands      cost [m]   its target tokens
    """

    draft: Draft
    part: Ints
    unit: Ints
    cost: Ints
    kept: int
    count: int = 0

    @classmethod
    def of(cls, draft: Draft) -> _Margin:
        parts = draft.flexible
        optional = [np.flatnonzero(~part.must) for part in parts]
        scores = _gather([part.scores(draft.config)[units] for part, units in zip(parts, optional, strict=True)])
        kept = _gather([part.keep[units] for part, units in zip(parts, optional, strict=True)]).astype(bool)
        place = np.repeat(np.arange(len(parts)), [len(units) for units in optional])
        order = np.lexsort((-scores, ~kept))
        cost = _gather([part.costs[units] for part, units in zip(parts, optional, strict=True)]).astype(np.int64)
        return cls(draft, place[order], _gather(optional).astype(np.int64)[order], cost[order], int(kept.sum()))

    @property
    def exhausted(self) -> bool:
        return self.kept == len(self.unit)

    def settle(self) -> bool:
        """Find the longest prefix within the target, then fill the rest; False if even nothing optional is too much."""
        self._apply(self.kept)
        while self.count > self.draft.target_tokens:
            if self.kept == 0:
                return False
            self._apply(self._shorter(self.count - self.draft.target_tokens))
        self._extend()
        self._fill()
        return True

    def _apply(self, kept: int) -> None:
        for number, part in enumerate(self.draft.flexible):
            part.keep = part.must.copy()
            part.keep[self.unit[:kept][self.part[:kept] == number]] = True
        self.kept = kept
        self.count = self.draft.count()

    def _shorter(self, excess: int) -> int:
        """The prefix without its last units worth `excess` tokens."""
        total = np.cumsum(self.cost[: self.kept])
        return min(self.kept - 1, int(np.searchsorted(total, total[-1] - excess, side="right")))

    def _extend(self) -> None:
        """Lengthen the prefix by what should fit; by half as much each time it does not."""
        share = 1.0
        while not self._enough() and share > 1 / _TRIES:
            before = self.kept
            slack = (self.draft.target_tokens - self.count) * share
            more = int(np.searchsorted(np.cumsum(self.cost[before:]), slack, side="right"))
            if more == 0:
                return
            self._apply(before + more)
            if self.count > self.draft.target_tokens:
                self._apply(before)
                share /= 2

    def _fill(self) -> None:
        """Add single later units that still fit, best first."""
        tries = 0
        for place in range(self.kept, len(self.unit)):
            slack = self.draft.target_tokens - self.count
            if tries == _TRIES or slack <= 0 or self._enough():
                return
            if self.cost[place] <= slack:
                tries += 1
                self._try(place)

    def _try(self, place: int) -> None:
        part = self.draft.flexible[self.part[place]]
        part.keep[self.unit[place]] = True
        count = self.draft.count()
        if count > self.draft.target_tokens:
            part.keep[self.unit[place]] = False
        else:
            self.count = count

    def _enough(self) -> bool:
        """Long texts need not be settled to the last token: each try counts the whole text again."""
        return self.draft.target_tokens - self.count <= self.draft.target_tokens // 500


def _gather(arrays: list[Any]) -> Any:
    return np.concatenate(arrays) if arrays else np.zeros(0)
