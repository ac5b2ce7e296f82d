"""Agreement is Spearman's correlation between stretches that both tokenizers can be cut into."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.agreement import Seen, agreement


def seen(ends: list[int], surprisal: list[float]) -> Seen:
    return Seen(np.asarray(ends), np.asarray(surprisal, np.float32))


def test_equal_tokens_with_equally_ordered_surprisal_agree_wholly() -> None:
    assert agreement(seen([2, 5, 9], [1, 2, 3]), seen([2, 5, 9], [10, 11, 50])) == pytest.approx(1)
    assert agreement(seen([2, 5, 9], [1, 2, 3]), seen([2, 5, 9], [3, 2, 1])) == pytest.approx(-1)


def test_other_tokens_are_compared_between_the_ends_that_both_have() -> None:
    """Common ends 4, 6, 8, 12: sums 3, 5, 1, 4 against 2, 9, 1, 8; ranks 2, 4, 1, 3 both times."""
    one = seen([2, 4, 6, 8, 9, 12], [1, 2, 5, 1, 3, 1])
    other = seen([4, 5, 6, 8, 12], [2, 4, 5, 1, 8])
    assert agreement(one, other) == pytest.approx(1)


def test_a_worked_example_with_ties() -> None:
    """Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4: covariance 4.5 / 4, variances 4.5 / 4 and 5 / 4."""
    one, other = seen([1, 2, 3, 4], [1, 1, 2, 3]), seen([1, 2, 3, 4], [1, 2, 3, 4])
    assert agreement(one, other) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20, width=32), st.integers(1, 5)), min_size=1, max_size=20))
def test_it_is_a_correlation_or_not_defined(tokens: list[tuple[float, int]]) -> None:
    ends = np.cumsum([size for _, size in tokens]).tolist()
    values = [value for value, _ in tokens]
    found = agreement(seen(ends, values), seen(ends, values[::-1]))
    assert found is None or -1.000001 <= found <= 1.000001


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen([1, 9], [1, 2]), seen([1, 9], [1, 2])),
        (seen([1, 2, 3, 9], [1, 2, 3, 4]), seen([4, 9], [1, 2])),
        (seen([1, 2, 3], [1, 1, 1]), seen([1, 2, 3], [1, 2, 3])),
    ],
    ids=["too short", "too few ends in common", "all equal"],
)
def test_where_ranks_say_nothing_there_is_no_agreement(one: Seen, other: Seen) -> None:
    assert agreement(one, other) is None


def test_characters_of_which_only_one_model_saw_all_do_not_count() -> None:
    """The other one's window ended at character 6."""
    assert agreement(seen([2, 4, 6, 8], [1, 2, 3, 0]), seen([2, 4, 6], [1, 2, 3])) == pytest.approx(1)
