"""The head: the same numbers as a softmax over all logits, within a bound of memory whatever the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lingua.models import sizing
from lingua.models.causal import Head, fused, surprisal
from lingua.models.sizing import head_bytes

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor of each type that an operator made."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, Tensor):
                size = one.untyped_storage().nbytes()
                self.bytes[one.dtype] = max(size, self.bytes.get(one.dtype, 0))
        return found


@contextmanager
def largest() -> Iterator[dict[torch.dtype, int]]:
    with Largest() as mode:
        yield mode.bytes


def model(vocabulary: int, dtype: torch.dtype, cap: float | None = None, bias: bool = False) -> Any:
    torch.manual_seed(1)
    matrix = nn.Linear(16, vocabulary, bias=bias).to(dtype).requires_grad_(False)
    text = SimpleNamespace(final_logit_softcapping=cap)
    config = SimpleNamespace(get_text_config=lambda: text)
    return SimpleNamespace(get_output_embeddings=lambda: matrix, config=config, dtype=dtype)


def asked(rows: int, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = (3 * torch.randn(rows + 5, 16, generator=generator)).to(dtype)
    before = torch.randperm(rows + 5, generator=generator)[:rows]
    return hidden, before, torch.randint(vocabulary, (rows,), generator=generator)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bound", [1 << 22, 3_000, 1])
def test_slices_of_any_size_give_the_softmax_of_all_logits(
    dtype: torch.dtype, cap: float | None, bias: bool, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sizing.HEAD_ELEMENTS, "cpu", bound)
    monkeypatch.setitem(sizing.FLOAT_ELEMENTS, "cpu", bound // 4)
    own = model(700, dtype, cap, bias)
    hidden, before, targets = asked(60, 700, dtype)
    logits = own.get_output_embeddings()(hidden[before]).float()
    logits = cap * torch.tanh(logits / cap) if cap else logits
    expected = nn.functional.cross_entropy(logits, targets, reduction="none")
    with torch.inference_mode():
        found = Head(own)(hidden, before, targets)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5, rtol=1e-5 if dtype == DTYPES[0] else 2e-3)


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("rows", [200, 2_000])
def test_logits_in_half_precision_are_never_copied_whole_to_float32(dtype: torch.dtype, rows: int) -> None:
    vocabulary = 50_000
    own, given = Head(model(vocabulary, dtype)), asked(rows, vocabulary, dtype)
    with torch.inference_mode(), largest() as made:
        own(*given)
    assert made[dtype] <= sizing.HEAD_ELEMENTS["cpu"] * 2
    assert made[torch.float32] <= sizing.FLOAT_ELEMENTS["cpu"] * 4
    assert made[dtype] + 2 * made[torch.float32] <= head_bytes("cpu", vocabulary, 2)


def test_what_a_float32_head_takes_does_not_grow_with_the_rows() -> None:
    taken = []
    for rows in (200, 2_000):
        own, given = Head(model(50_000, torch.float32)), asked(rows, 50_000, torch.float32)
        with torch.inference_mode(), largest() as made:
            own(*given)
        taken.append(made[torch.float32])
    assert taken[0] == taken[1] <= sizing.HEAD_ELEMENTS["cpu"] * 4


@pytest.mark.parametrize("cap", [None, 5.0])
def test_the_reduction_that_is_compiled_for_a_gpu_says_the_same(cap: float | None) -> None:
    logits = (10 * torch.randn(9, 300)).bfloat16()
    targets = torch.arange(9)
    exact = logits.float() if cap is None else cap * torch.tanh(logits.float() / cap)
    expected = nn.functional.cross_entropy(exact, targets, reduction="none")
    torch.testing.assert_close(surprisal(logits, targets, cap), expected)


def test_where_torch_cannot_compile_the_head_is_computed_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation")

    monkeypatch.setattr(torch, "compile", broken)
    assert fused(torch.device("cpu"), torch.bfloat16) is None
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda *given: function(*given) + 0.1)
    assert fused(torch.device("cpu"), torch.bfloat16) is None
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert fused(torch.device("cpu"), torch.bfloat16) is surprisal
