"""Labels become windows in which every token has its word's target; agreement is 1 for an encoder that agrees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.distillation import (
    Chunker,
    Window,
    agreement,
    auc,
    collate,
    highest,
    keep_loss,
    split,
    targets_of,
    windows_of,
)
from jobs.training.labels import Labelled, words_of
from lingua.engine.score import Answer, BatchRow, Context, Scorer
from lingua.errors import ConfigError
from tests.jobs.training.runs import tokenizer
from tests.texts import NASTY, PROSE


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_chunks_hold_all_but_white_space(text: str) -> None:
    found = list(Chunker(tokenizer(), 8).chunks(text))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(chunk.strip() for chunk in found)


@pytest.mark.parametrize("size", [16, 40, 1000])
def test_a_chunk_is_at_most_as_long_as_asked(size: int) -> None:
    counts = [tokenizer().count(chunk) for chunk in Chunker(tokenizer(), size).chunks(PROSE)]
    assert max(counts) <= size


def test_chunks_end_with_sentences_where_these_fit() -> None:
    chunks = list(Chunker(tokenizer(), 90).chunks(PROSE))
    assert len(chunks) > 1
    assert all(chunk.rstrip()[-1] in ".!?" for chunk in chunks)


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
    train, held_out = split(records, 0.2, seed=1)
    held = {one.origin for one in held_out}
    assert len(held) == 4
    assert held.isdisjoint(one.origin for one in train)
    assert len(train) + len(held_out) == 60


def test_what_is_held_out_depends_on_rows_and_seed_and_not_on_their_order() -> None:
    records = [record("some words", f"row {number}") for number in range(40)]
    _, held_out = split(records, 0.2, 1)
    assert set(held_out) == set(split(records[::-1], 0.2, 1)[1])
    assert set(held_out) != set(split(records, 0.2, 2)[1])


def test_a_single_row_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match="of 1 usable rows none is left"):
        split([record("some words", "row 0")], 0.1, 0)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40))
def test_ranks_lie_between_0_and_1_in_the_order_of_the_scores(scores: list[float]) -> None:
    values = np.asarray(scores, np.float32)
    ranks = targets_of("rank", [Labelled(("w",) * len(scores), tuple(scores))], 0.3)(values)
    assert 0 <= ranks.min() <= ranks.max() <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    assert ranks.mean() == pytest.approx(0.5, abs=1e-5)


def test_kept_is_the_share_with_the_highest_scores() -> None:
    records = [Labelled(("w",) * 10, tuple(map(float, range(10))))]
    assert targets_of("kept", records, 0.3)(np.arange(10, dtype=np.float32)).tolist() == [0] * 7 + [1] * 3


def test_scores_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scores from 0 to 7 .* --targets rank"):
        targets_of("scores", [Labelled(("a", "b"), (0.0, 7.0))], 0.3)


# ---- the loss


def loss(logits: torch.Tensor, targets: torch.Tensor, keep: int = 1) -> torch.Tensor:
    """The mean over the labels of one batch."""
    outputs = type("Outputs", (), {"logits": logits})
    return keep_loss(keep, outputs, targets, (targets != -100).sum())


def test_the_loss_is_lowest_where_the_probability_is_the_target() -> None:
    odds = torch.linspace(-4, 4, 81)
    losses = torch.stack(
        [loss(torch.stack([torch.zeros(1), one[None]], -1)[None], torch.full((1, 1), 0.3)) for one in odds]
    )
    assert float(torch.sigmoid(odds[losses.argmin()])) == pytest.approx(0.3, abs=0.05)


def test_with_more_labels_than_two_keep_stands_against_all_others() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = -torch.log(torch.softmax(logits, -1)[..., 2]).mean()
    torch.testing.assert_close(loss(logits, torch.ones(2, 3), keep=2), expected)


def test_special_tokens_and_padding_have_no_label_and_nothing_to_read_adds_nothing() -> None:
    found = [
        Window([5, 6, 7], np.arange(3), np.ones(3, np.float32)),
        Window([8], np.arange(1), np.zeros(1, np.float32)),
    ]
    batch = collate(([2], [3]), 0, found)
    assert batch["input_ids"].tolist() == [[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 1, 1, 1, -100], [-100, 0, -100, -100, -100]]
    empty = collate(([2], [3]), 0, [])
    assert (
        float(keep_loss(1, type("Outputs", (), {"logits": torch.randn(1, 1, 2)}), empty["labels"], torch.tensor(7)))
        == 0
    )


# ---- agreement


class ByToken(Scorer):
    """A scorer whose answer is a function of each token's id."""

    window = batch_tokens = live_tokens = probe_tokens = 1 << 20

    def __init__(self, sign: int = 1) -> None:
        self._sign = sign

    def cached(self, context: object) -> int:
        return 0

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        return [self._sign * np.asarray([id_ % 17 / 17 for id_ in row.probe], np.float32) for row in rows]


def labels_of(scorer: ByToken) -> Labelled:
    """A text whose words score what the scorer will say of them."""
    words = words_of(PROSE)
    (encoding,) = tokenizer().encode([PROSE])
    (answers,) = scorer.score([BatchRow(Context(), encoding.ids.tolist())])
    starts = np.cumsum([0, *map(len, words)])
    owner = np.searchsorted(starts, encoding.token_starts, side="right") - 1
    means = [answers[owner == word].mean() if word in owner else 0.0 for word in range(len(words))]
    return Labelled(words, tuple(map(float, means)), "row 0")


def test_a_student_that_says_what_the_teacher_says_agrees_wholly() -> None:
    record = labels_of(ByToken())
    found = agreement(ByToken(), [record], Chunker(tokenizer(), 30), lambda scores: scores, 0.3)
    assert found["spearman"] == pytest.approx(1, abs=1e-3)
    assert found["auc"] == pytest.approx(1, abs=0.01)
    assert found["f1"] == pytest.approx(1, abs=0.05)  # equal words where the cut falls may be taken in another order
    assert (found["texts"], found["words"]) == (1, len(record.words))
    assert found["kept"] == pytest.approx(0.3, abs=0.05)


def test_a_student_that_says_the_opposite_does_not() -> None:
    found = agreement(ByToken(-1), [labels_of(ByToken())], Chunker(tokenizer(), 30), lambda scores: scores, 0.3)
    assert found["spearman"] == pytest.approx(-1, abs=1e-3)
    assert found["f1"] < found["chance"]
    assert found["auc"] < 0.05


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs_that_stand_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    ones = [score for score, positive in pairs if positive]
    zeros = [score for score, positive in pairs if not positive]
    scores, positive = (np.asarray(values) for values in zip(*pairs, strict=True))
    together = [(one > zero) + (one == zero) / 2 for one in ones for zero in zeros]
    assert auc(scores.astype(np.float32), positive) == pytest.approx(np.mean(together) if together else 0.5)


def test_of_equal_scores_the_earlier_is_chosen() -> None:
    assert highest(np.asarray([1, 2, 2, 0], np.float32), 2).tolist() == [False, True, True, False]
    assert highest(np.asarray([1, 1, 1], np.float32), 2).tolist() == [True, True, False]
