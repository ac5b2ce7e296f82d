"""Agreement is what its names say, and 1 for a student that says what the teacher says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.distill_agreement import agreement, auc, highest, spearman
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_records import Labelled, words_of
from lingua.score import Context, Row, Surprisal
from tests.jobs.training.distill_runs import tokenizer
from tests.texts import PROSE


class ByToken:
    """A scorer whose answer is a function of each token's id."""

    window = batch_tokens = live_tokens = probe_tokens = 1 << 20

    def __init__(self, sign: int = 1) -> None:
        self._sign = sign

    def cached(self, context: object) -> int:
        return 0

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        return [self._sign * np.asarray([id_ % 17 / 17 for id_ in row.probe], np.float32) for row in rows]


def labels_of(scorer: ByToken) -> Labelled:
    """A text whose words score what the scorer will say of them."""
    words = words_of(PROSE)
    (encoding,) = tokenizer().encode([PROSE])
    (answers,) = scorer.score([Row(Context(), encoding.ids.tolist())])
    starts = np.cumsum([0, *map(len, words)])
    owner = np.searchsorted(starts, encoding.token_starts, side="right") - 1
    means = [answers[owner == word].mean() if word in owner else 0.0 for word in range(len(words))]
    return Labelled(words, tuple(map(float, means)), "row 0")


def test_a_student_that_says_what_the_teacher_says_agrees_wholly() -> None:
    record = labels_of(ByToken())
    found = agreement(ByToken(), [record], Chunker(tokenizer(), 30), lambda scores: scores, 0.3)
    assert found.spearman == pytest.approx(1, abs=1e-3)
    assert found.auc == pytest.approx(1, abs=0.01)
    assert found.f1 == pytest.approx(1, abs=0.05)  # equal words where the cut falls may be taken in another order
    assert (found.texts, found.words) == (1, len(record.words))
    assert found.kept == pytest.approx(0.3, abs=0.05)


def test_a_student_that_says_the_opposite_does_not() -> None:
    found = agreement(ByToken(-1), [labels_of(ByToken())], Chunker(tokenizer(), 30), lambda scores: scores, 0.3)
    assert found.spearman == pytest.approx(-1, abs=1e-3)
    assert found.f1 < found.chance
    assert found.auc < 0.05


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs_that_stand_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    ones = [score for score, positive in pairs if positive]
    zeros = [score for score, positive in pairs if not positive]
    scores, positive = (np.asarray(values) for values in zip(*pairs, strict=True))
    together = [(one > zero) + (one == zero) / 2 for one in ones for zero in zeros]
    assert auc(scores.astype(np.float32), positive) == pytest.approx(np.mean(together) if together else 0.5)


def test_rank_correlation_of_a_worked_example_with_ties() -> None:
    """Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4: 4.5 / √(4.5 · 5)."""
    one, other = (np.asarray(values, np.float32) for values in ([0, 0, 5, 9], [1, 2, 3, 4]))
    assert spearman(one, other) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert spearman(one, np.ones(4, np.float32)) == 0


def test_of_equal_scores_the_earlier_is_chosen() -> None:
    assert highest(np.asarray([1, 2, 2, 0], np.float32), 2).tolist() == [False, True, True, False]
    assert highest(np.asarray([1, 1, 1], np.float32), 2).tolist() == [True, True, False]
