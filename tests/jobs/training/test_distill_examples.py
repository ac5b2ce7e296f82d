"""Labels become windows in which every token has its word's target, and an order that can be repeated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.distill_examples import batches, split, transform, windows_of
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_records import Labelled, words_of
from lingua.errors import ConfigError
from tests.jobs.training.distill_runs import tokenizer
from tests.texts import NASTY, PROSE


def record(text: str, origin: str = "") -> Labelled:
    words = words_of(text)
    return Labelled(words, tuple(np.linspace(0, 1, len(words)).tolist()), origin)


@pytest.mark.parametrize("text", [PROSE, *NASTY.values()], ids=["prose", *NASTY])
@pytest.mark.parametrize("size", [7, 500])
def test_a_token_has_the_target_of_the_word_in_which_it_begins(text: str, size: int) -> None:
    chunker, labelled = Chunker(tokenizer(), size), record(text)
    windows = list(windows_of(labelled, chunker, lambda scores: scores))
    (encoding,) = tokenizer().encode([text])
    assert [id_ for window in windows for id_ in window.ids] == encoding.ids.tolist()
    assert all(len(window.ids) <= size for window in windows)
    targets = [target for window in windows for target in window.target.tolist()]
    starts = np.cumsum([0, *map(len, labelled.words)])
    for begin, target in zip(encoding.token_starts.tolist(), targets, strict=True):
        word = next(number for number in range(len(starts) - 1) if starts[number] <= begin < starts[number + 1])
        assert target == pytest.approx(labelled.scores[word])


def test_chunks_of_one_row_are_all_trained_on_or_all_held_out() -> None:
    records = [record("some words", f"row {number // 3}") for number in range(60)]
    parts = split(records, 0.2, seed=1)
    held = {one.origin for one in parts.held_out}
    assert len(held) == 4
    assert held.isdisjoint(one.origin for one in parts.train)
    assert len(parts.train) + len(parts.held_out) == 60


def test_what_is_held_out_depends_on_rows_and_seed_and_not_on_their_order() -> None:
    records = [record("some words", f"row {number}") for number in range(40)]
    assert set(split(records, 0.2, 1).held_out) == set(split(records[::-1], 0.2, 1).held_out)
    assert set(split(records, 0.2, 1).held_out) != set(split(records, 0.2, 2).held_out)


def test_a_single_row_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match="of 1 usable rows none is left"):
        split([record("some words", "row 0")], 0.1, 0)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40))
def test_ranks_lie_between_0_and_1_in_the_order_of_the_scores(scores: list[float]) -> None:
    values = np.asarray(scores, np.float32)
    ranks = transform("rank", [Labelled(("w",) * len(scores), tuple(scores))], 0.3)(values)
    assert 0 <= ranks.min() <= ranks.max() <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    assert ranks.mean() == pytest.approx(0.5, abs=1e-5)


def test_kept_is_the_share_with_the_highest_scores() -> None:
    records = [Labelled(("w",) * 10, tuple(map(float, range(10))))]
    assert transform("kept", records, 0.3)(np.arange(10, dtype=np.float32)).tolist() == [0] * 7 + [1] * 3


def test_scores_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scores from 0 to 7 .* --targets rank"):
        transform("scores", [Labelled(("a", "b"), (0.0, 7.0))], 0.3)


@given(st.integers(1, 300), st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_shows_every_window_once_and_can_be_repeated(count: int, size: int, epoch: int) -> None:
    lengths = [number * 7 % 31 for number in range(count)]
    found = batches(lengths, size, 5, epoch)
    assert sorted(number for batch in found for number in batch) == list(range(count))
    assert all(len(batch) <= size for batch in found)
    assert found == batches(lengths, size, 5, epoch)
