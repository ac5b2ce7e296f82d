"""Prices of prompt tokens, for the report: what a corpus costs to read before and after, and so what was saved."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a million prompt tokens cost at a model, in whatever currency the user thinks in."""

    model: str
    per_million: float

    def of(self, tokens: int) -> float:
        """What so many tokens cost."""
        return self.per_million * tokens / MILLION


def parse_prices(entries: Iterable[str]) -> tuple[Price, ...]:
    """From ``NAME=PRICE`` each. ValueError names the entry that is something else."""
    return tuple(map(_price, entries))


def _price(entry: str) -> Price:
    model, _, amount = entry.rpartition("=")
    try:
        per_million = float(amount)
    except ValueError:
        per_million = math.nan
    if not model.strip() or not math.isfinite(per_million) or per_million < 0:
        raise ValueError(f"{entry!r}: write NAME=PRICE, the price of a million tokens, e.g. 'gpt-4o=2.50'")
    return Price(model.strip(), per_million)
