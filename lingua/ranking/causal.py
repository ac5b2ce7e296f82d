"""Ranking by a causal language model: section 4.1 of LongLLMLingua (arXiv 2310.06839), and LLMLingua's perplexity.

Every string is read on its own. The restrictive sentence behind the question ties it to the documents, so that a model
does not answer from what it knows anyway. Of a document beyond the model's window the question sees the end only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lingua.config import Condition
from lingua.ranking.protocol import Importance
from lingua.score import Context, Program, Score, Surprisal

if TYPE_CHECKING:
    from lingua.draft import Draft

RESTRICTIVE_SENTENCE = "We can get the answer to this question in the given documents."


@dataclass(frozen=True, slots=True)
class OwnSurprisal:
    """The string of highest perplexity first; knows no question, so that all questions share the work."""

    def importance(self, draft: Draft) -> Program[Importance]:
        answers = yield [Score(Context(draft.head), part.ids.tolist()) for part in draft.context]
        return _means(answers)


@dataclass(frozen=True, slots=True)
class QuestionLikelihood:
    """First the string that the question is likeliest after (``after``), or that is likeliest after it (``before``)."""

    condition: Condition = "after"

    def importance(self, draft: Draft) -> Program[Importance]:
        if self.condition == "none":
            return (yield from OwnSurprisal().importance(draft))
        asked = draft.ids(f"{draft.prompt.question} {RESTRICTIVE_SENTENCE}")
        separator = draft.ids(draft.prompt.separator)
        documents = [part.ids.tolist() for part in draft.context]
        if self.condition == "before":
            scores = [Score(Context(draft.head), ids, [*asked, *separator]) for ids in documents]
        else:
            scores = [Score(Context(draft.head), asked, [*ids, *separator]) for ids in documents]
        return -_means((yield scores))


def _means(answers: list[Surprisal]) -> Importance:
    return np.asarray([answer.mean() if len(answer) else 0.0 for answer in answers], np.float32)
