"""From evidence to a keep mask in one step: every component keeps the best units that its share of the target holds.

Methods that score all tokens before they choose end here. The context strings compete with one another; a string with a
rate of its own keeps that share of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lingua.budget import shares
from lingua.coherent import keep_coherent
from lingua.draft import Draft, Part
from lingua.select import choose

READS = {"coherence": ""}


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


def keep_within(draft: Draft, parts: Sequence[Part], budget: float) -> None:
    """Keep the best of all `parts` together that fits into `budget` target tokens: in coherent pieces or as it is."""
    parts = [part for part in parts if not part.whole]
    if draft.config.coherent_share and parts:
        keep_coherent(parts, budget, draft.config)
    elif parts:
        _keep_units(draft, parts, budget)


def _keep_units(draft: Draft, parts: Sequence[Part], budget: float) -> None:
    scores = np.concatenate([part.scores(draft.config) for part in parts])
    costs, must = np.concatenate([part.costs for part in parts]), np.concatenate([part.must for part in parts])
    kept = choose(scores, costs, must, budget)
    for part, keep in zip(parts, np.split(kept, np.cumsum([len(part.keep) for part in parts])[:-1]), strict=True):
        part.keep = keep
