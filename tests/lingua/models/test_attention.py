"""Attention without padding: a stand-in of the kernel computes from row boundaries what torch's does on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lingua.engine.engine import Engine
from lingua.engine.score import BatchRow, Context
from lingua.models import pooled as attention
from lingua.models.causal import PlainScorer
from lingua.models.packed import Options
from lingua.models.pooled import row_chunks
from tests.lingua.models.test_causal import STEPS, TEXT, growing
from tests.lingua.models.test_pool import close, pooled
from tests.models import PACKED, tiny

CPU = torch.device("cpu")
SERVED = [name for name in PACKED if name != "gemma2 softcap"]
CUTS = [(0, 1, 3), (5, 20, 21), (30, 31, 70), (80, 120, 160), (200, 201, 202), (0, 0, 30)]


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """As torch documents it: row by row, aligned to the bottom right; a window is so many keys besides the own one."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert (int(cu_seq_q[-1]), int(cu_seq_k[-1])) == (len(query), len(key))
    assert (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max())) == (max_q, max_k)
    heads, found = query.shape[1] // key.shape[1], []
    for (a, b), (c, d) in zip(cu_seq_q.unfold(0, 2, 1).tolist(), cu_seq_k.unfold(0, 2, 1).tolist(), strict=True):
        at = torch.arange(b - a)[:, None] + (d - c) - (b - a)
        keys = torch.arange(d - c)
        left, right = window_size
        seen = ((keys <= at + right) | (right < 0)) & ((keys >= at - left) | (left < 0))
        known = key[c:d].repeat_interleave(heads, 1), value[c:d].repeat_interleave(heads, 1)
        weights = torch.einsum("qhd,khd->hqk", query[a:b], known[0]) * (scale or query.shape[-1] ** -0.5)
        weights = torch.softmax(weights.masked_fill(~seen, float("-inf")), -1)
        found.append(torch.einsum("hqk,khd->qhd", weights, known[1]))
    return torch.cat(found)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernel's stand-in serves all it could; how many keys each call was given."""
    seen: list[int] = []

    def counted(query: Tensor, key: Tensor, *rest: Any, enable_gqa: bool = False, **options: Any) -> Tensor:
        seen.append(len(key))
        return stand_in(query, key, *rest, enable_gqa=enable_gqa, **options)

    monkeypatch.setattr(attention, "kernel", lambda: counted)
    monkeypatch.setattr(attention, "serves", lambda query, value, options: not options.softcap)
    monkeypatch.setattr(attention, "_parameters", lambda kernel: {"enable_gqa"})
    return seen


@pytest.mark.parametrize("most", [1 << 17, 75])
@pytest.mark.parametrize("name", SERVED)
def test_rows_of_all_lengths_equal_plain_ones(
    name: str, most: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = pooled(name)
    monkeypatch.setattr(attention, "MOST_KEYS", most)
    rows = [BatchRow(Context((0,), TEXT[a:b]), TEXT[b:c]) for a, b, c in CUTS]
    close(scorer.score(rows), PlainScorer(tiny(name)).score(rows))
    assert len(calls) == (2 if most > 75 else 6)
    assert max(calls) <= max(most, 81)


@pytest.mark.parametrize("name", SERVED)
def test_cached_contexts_and_their_forks_equal_uncached_ones(name: str, calls: list[int]) -> None:
    scorer, plain = pooled(name, 60), PlainScorer(tiny(name))
    scorer.window = plain.window = 4_096
    for first, found in enumerate(Engine(scorer).run(growing((0,), STEPS[first:]) for first in range(3))):
        (expected,) = Engine(plain).run([growing((0,), STEPS[first:])])
        close(found, expected)  # type: ignore[arg-type]
    assert calls


def test_layers_that_the_kernel_does_not_know_are_computed_in_groups(calls: list[int]) -> None:
    rows = [BatchRow(Context((0,), TEXT[a:b]), TEXT[b:c]) for a, b, c in CUTS]
    close(pooled("gemma2 softcap").score(rows), PlainScorer(tiny("gemma2 softcap")).score(rows))
    assert not calls


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=20))
@settings(deadline=None)
def test_pieces_hold_every_row_once_and_are_bounded(sizes: list[tuple[int, int]]) -> None:
    queries = np.asarray([new for new, _ in sizes])
    slots = [np.arange(new + cached) + 1_000 * row for row, (new, cached) in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "MOST_KEYS", 120)
        found = row_chunks(slots, queries, CPU)
    assert torch.cat([piece.slots for piece in found]).tolist() == np.concatenate(slots).tolist()
    assert [piece.begin for piece in found[1:]] == [piece.end for piece in found[:-1]]
    assert found[-1].end == queries.sum()
    for piece in found:
        assert int(piece.place.queries[-1]) == piece.end - piece.begin
        assert int(piece.place.keys[-1]) == len(piece.slots) <= 120
        assert piece.fresh == (len(piece.slots) == piece.end - piece.begin)


def option_windows(window: int | None, longest: int) -> tuple[int, int]:
    """The window that the kernel is given."""
    given: list[tuple[int, int]] = []

    def kernel(*_: Any, window_size: tuple[int, int], scale: float | None) -> Tensor:
        given.append(window_size)
        return torch.zeros(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "kernel", lambda: kernel)
        states: Any = (torch.zeros(1, 2, 8),) * 3
        attention.attend(
            states, attention.RowBounds(torch.zeros(2), torch.zeros(2), 1, longest), Options(window=window)
        )
    return given[0]


def test_a_window_counts_the_own_key_and_one_that_hides_nothing_is_none() -> None:
    assert [option_windows(window, 50) for window in (None, 50, 49, 1)] == [(-1, 0), (-1, 0), (48, 0), (0, 0)]


def test_nothing_but_half_precision_on_a_gpu_is_served() -> None:
    state = torch.zeros(4, 2, 64)
    assert not attention.serves(state, state, Options())
    assert not attention.serves(state.bfloat16(), state.bfloat16(), Options())


def test_a_kernel_without_scale_or_window_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("torch.nn.attention.varlen")
    names: Sequence[str] = ["scale", "window_size"]
    for missing in names:
        monkeypatch.setattr(attention, "_parameters", lambda _, left=missing: {"scale", "window_size"} - {left})
        attention.kernel.cache_clear()
        assert attention.kernel() is None
    monkeypatch.undo()
    attention.kernel.cache_clear()
    assert attention.kernel() in (module.varlen_attn, None)
