"""Selective-Context (arXiv 2310.06201): one pass over the uncut prompt; the units of least self-information go.

Self-information is −log p(x_i | x_<i), of a unit the sum of its tokens' (`aggregate`). Units are tokens, words, phrases
or sentences: `unit: phrase` is the paper's choice, whose noun chunks need an English parser where ours are cut by a
rule. The paper's percentile is replaced by the exact budget.
"""

from __future__ import annotations

from typing import ClassVar

from lingua.budget.draft import Draft, PromptPart
from lingua.budget.selection import keep_best
from lingua.engine.score import Context, Needs, Program, Score
from lingua.methods.baselines import RaritySettings


class SelectiveSettings(RaritySettings):
    """What Selective-Context reads."""

    needs: ClassVar[Needs] = "causal"


def selective(draft: Draft, own: SelectiveSettings) -> Program[None]:
    """Decide what `draft` keeps."""
    yield from inform(draft)
    keep_best(draft)


def inform(draft: Draft) -> Program[None]:
    """Fill in every token's self-information given all text before it; text after the last part to cut is not read."""
    separator = draft.ids(draft.prompt.separator)
    probe = list[int]()
    places = list[tuple[PromptPart, int, int]]()
    for part, first in draft.stream():
        begin = len(probe) + (0 if first else len(separator))
        probe += [*([] if first else separator), *part.ids.tolist()]
        if not part.whole:
            places.append((part, begin, len(probe)))
    if not places:
        return
    (surprisal,) = yield [Score(Context(draft.head), probe[: places[-1][2]])]
    for part, begin, end in places:
        part.token_scores = surprisal[begin:end].copy()
