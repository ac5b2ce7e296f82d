"""How far a student agrees with its teacher on texts that neither was fitted to: F1, AUC and rank correlation of words.

The teacher keeps the words above its limit; the student is asked through the scorer of `method: llmlingua2`, a word's
probability being the mean of its tokens', and keeps as many words of each text, so precision and recall are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.training.distill_examples import Transform, windows_of
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_records import Labelled
from lingua.score import Context, Row, Scorer
from lingua.units import Bools, Floats


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was measured on `words` words of `texts` texts; `chance` is the F1 of a student that guesses."""

    texts: int
    words: int
    kept: float
    f1: float
    chance: float
    auc: float
    spearman: float


def agreement(
    scorer: Scorer, records: Sequence[Labelled], chunker: Chunker, targets: Transform, rate: float
) -> Agreement:
    """Compare the student with the labels of held-out texts.

    Targets that are 0 or 1 say themselves what is kept; of others, the share `rate` of all words with the highest ones.
    """
    wanted = [targets(np.asarray(record.scores, np.float32)) for record in records]
    given = [word_probabilities(scorer, record, chunker) for record in records]
    limit = _limit(np.concatenate(wanted), rate)
    kept = [one >= limit for one in wanted]
    chosen = [highest(one, int(keep.sum())) for one, keep in zip(given, kept, strict=True)]
    all_kept, all_chosen = np.concatenate(kept), np.concatenate(chosen)
    both = int((all_kept & all_chosen).sum())
    by_chance = sum(keep.sum() ** 2 / len(keep) for keep in kept if len(keep))
    total = max(1, int(all_kept.sum()))
    return Agreement(
        texts=len(records),
        words=len(all_kept),
        kept=float(all_kept.mean()),
        f1=both / total,
        chance=float(by_chance / total),
        auc=auc(np.concatenate(given), all_kept),
        spearman=spearman(np.concatenate(given), np.concatenate(wanted)),
    )


def word_probabilities(scorer: Scorer, record: Labelled, chunker: Chunker) -> Floats:
    """The student's keep probability of every word [w]; 0 for one without tokens."""
    windows = list(windows_of(record, chunker, lambda values: values))
    answers = scorer.score([Row(Context(), window.ids) for window in windows])
    total, count = np.zeros(len(record.words)), np.zeros(len(record.words))
    for window, answer in zip(windows, answers, strict=True):
        np.add.at(total, window.word, answer)
        np.add.at(count, window.word, 1)
    return (total / np.maximum(count, 1)).astype(np.float32)


def highest(scores: Floats, count: int) -> Bools:
    """Mask of the `count` highest scores, of equal ones the earlier."""
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask


def auc(scores: Floats, positive: Bools) -> float:
    """How probably a positive scores above a negative, equal scores counting half; 0.5 where either is absent."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5
    return float((ranks(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def spearman(one: Floats, other: Floats) -> float:
    """Rank correlation; 0 where either does not vary."""
    first, second = ranks(one), ranks(other)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    known = np.sort(values)
    return (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right") + 1) / 2


def _limit(targets: Floats, rate: float) -> float:
    if np.isin(targets, (0.0, 1.0)).all():
        return 1.0
    return float(np.sort(targets)[min(len(targets) - 1, int((1 - rate) * len(targets)))])
