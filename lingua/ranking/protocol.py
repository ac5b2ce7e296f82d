"""The protocol of rankers, and the adapter for those that need no causal language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from lingua.score import Program

if TYPE_CHECKING:  # a draft knows its ranker
    from lingua.draft import Draft

Importance = npt.NDArray[np.float32]


class Ranker(Protocol):
    """Says how much each context string matters for the question."""

    def importance(self, draft: Draft) -> Program[Importance]:
        """One number per context string, higher = more important; may ask for surprisal on the way."""
        ...


@dataclass(frozen=True, slots=True)
class Computed:
    """A ranker that asks the language model for nothing: `relevance(question, documents)` computes it."""

    relevance: Callable[[str, Sequence[str]], Importance]

    def importance(self, draft: Draft) -> Program[Importance]:
        yield from ()
        return self.relevance(draft.prompt.question, draft.prompt.context)
