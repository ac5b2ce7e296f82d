"""One pool for all keys and values: a slot is held as long as somebody reads it, and the numbers are the plain ones."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lingua
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, PoolFullError, Program, Score
from lingua.models import causal
from lingua.models.causal import PackedScorer, PlainScorer, PooledScorer
from lingua.models.pooled import PooledKeyValues, PooledRows, TokenPool, _grouped
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer
from tests.fakes_engine import drafter, outcomes
from tests.lingua.methods.test_llmlingua import ONE_TEXT, PROMPT
from tests.lingua.models.test_causal import STEPS, TEXT, growing
from tests.models import PACKED, WINDOW, tiny

TOKENS = 4_000


def pooled(name: str, batch_tokens: int | None = None, tokens: int = TOKENS) -> PooledScorer:
    model = tiny(name)
    assert isinstance(causal_scorer(model), PackedScorer)
    return PooledScorer(model, Allowance(batch_tokens), TokenPool(tokens))


def close(one: Sequence[Answer], other: Sequence[Answer]) -> None:
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", PACKED)
def test_grouped_rows_of_all_lengths_equal_plain_ones(name: str) -> None:
    cuts = [(0, 1, 3), (5, 20, 21), (30, 31, 70), (80, 120, 160), (200, 201, 202), (210, 250, 305), (0, 0, 30)]
    rows = [BatchRow(Context((0,), TEXT[a:b]), TEXT[b:c]) for a, b, c in cuts]
    close(pooled(name).score(rows), PlainScorer(tiny(name)).score(rows))


@pytest.mark.parametrize("window", [4_096, WINDOW])
@pytest.mark.parametrize("name", PACKED)
def test_pooled_contexts_and_their_forks_equal_uncached_ones(name: str, window: int) -> None:
    steps = STEPS if window > WINDOW else [(30, 40), (40, 20), (40, 48), (48, 90), (3, 5), (100, 10)]
    scorer, plain = pooled(name, 60), PlainScorer(tiny(name))
    scorer.window = plain.window = window
    many = [growing((0,), steps[first:]) for first in range(3)]
    for first, found in enumerate(Engine(scorer).run(many)):
        (expected,) = Engine(plain).run([growing((0,), steps[first:])])
        close(found, expected)  # type: ignore[arg-type]


def test_pooled_and_plain_scorers_keep_the_same() -> None:
    own = drafter(rate=0.4, iterative_size=25)
    prompts = [PROMPT, ONE_TEXT, PROMPT]
    assert outcomes(prompts, own, pooled("llama")) == outcomes(prompts, own, PlainScorer(tiny("llama")))


def test_all_slots_are_free_when_the_programs_are_done() -> None:
    scorer = pooled("llama", 50)
    list(Engine(scorer).run(growing((0,), STEPS[first:]) for first in range(5)))
    gc.collect()
    assert scorer.pool.left == TOKENS


def test_a_batch_that_the_pool_has_no_room_for_is_asked_in_smaller_ones_that_grow_again() -> None:
    scorer = pooled("llama", 2_000, 260)
    scorer.live_tokens = 240

    def asking(first: int) -> Program[list[Answer]]:
        return (yield [Score(Context((0,), TEXT[first : first + 3]), TEXT[:90])])

    found = list(Engine(scorer).run(asking(first) for first in range(4)))
    rows = [BatchRow(Context((0,), TEXT[first : first + 3]), TEXT[:90]) for first in range(4)]
    close([one[0] for one in found], PlainScorer(tiny("llama")).score(rows))  # type: ignore[index]
    assert scorer.batch_tokens == 2_000
    with pytest.raises(PoolFullError, match="do not fit"):
        scorer.score(rows)


def test_a_layer_takes_as_many_kernels_for_many_rows_as_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    attend = causal.PooledRows.attend
    monkeypatch.setattr(
        PooledRows, "attend", lambda self, *rest: calls.append(len(self._groups[0])) or attend(self, *rest)
    )
    pooled("llama").score([BatchRow(Context((0,), TEXT[first:30]), TEXT[:20]) for first in range(8)])
    assert calls == [1, 1]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 900)), min_size=1, max_size=40))
@settings(deadline=None)
def test_groups_hold_every_row_once_and_are_filled(sizes: list[tuple[int, int]]) -> None:
    rows = [(new, new + cached) for new, cached in sizes]
    groups = _grouped(rows)
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    for group in groups:
        widest = max(rows[index][0] for index in group) * max(rows[index][1] for index in group)
        assert sum(rows[index][0] * rows[index][1] for index in group) >= 0.6 * len(group) * widest


def test_a_fork_keeps_its_slots_when_the_other_writes() -> None:
    pool = TokenPool(10)
    one = PooledKeyValues(pool)
    one.reserve(0, 4)
    one.settle(4)
    fork: Any = one.fork()
    one.reserve(3, 2)
    one.settle(5)
    assert set(fork.slots[:3]) == set(one.slots[:3])
    assert fork.slots[3] not in one.slots
    assert pool.left == 10 - 6
    del one
    assert pool.left == 10 - 4
    del fork
    assert pool.left == 10


def test_slots_that_the_collector_hands_in_are_taken_at_the_next_move_not_in_the_middle_of_one() -> None:
    pool = TokenPool(10)
    lost: Any = PooledKeyValues(pool)
    lost.reserve(0, 4)
    context = Context(cache=lost)
    context.last_key = context  # type: ignore[assignment]  # a circle, as a traceback makes one
    del lost, context
    free = pool._free.copy()
    gc.collect()
    assert (pool._free == free).all()
    assert len(pool.take(10)) == 10
    assert pool.left == 0


def test_no_class_relies_on_its_finaliser() -> None:
    sources = Path(lingua.__file__).parent.rglob("*.py")
    assert [path for path in sources if "__del__" in path.read_text()] == []


def test_what_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(PoolFullError, match="11 tokens"):
        TokenPool(10).take(11)
