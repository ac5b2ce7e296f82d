"""On a GPU the numbers are those of the CPU; skipped where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lingua.engine.score import Answer, BatchRow, Context
from lingua.models import pooled
from lingua.models.causal import PackedScorer, PooledScorer
from lingua.models.load import Loader
from lingua.models.packed import Options
from lingua.models.pooled import PooledKeyValues, PooledRows, TokenPool
from lingua.models.sizing import Allowance, free_bytes
from lingua.models.source import resolve
from lingua.models.trial import causal_scorer
from tests.lingua.models.encoders import LINES, save_encoder
from tests.models import PACKED, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IDS = np.random.default_rng(5).integers(3, 500, 90).tolist()


def surprisals(name: str, device: str, dtype: torch.dtype) -> Sequence[Answer]:
    """Of two rows in one batch, the first after a context that was cached by an earlier request."""
    scorer = causal_scorer(tiny(name).to(device=device, dtype=dtype))
    assert isinstance(scorer, PackedScorer)
    context = Context(ids=IDS[:20])
    scorer.score([BatchRow(context, IDS[20:30])])
    context.ids.extend(IDS[20:40])
    return scorer.score([BatchRow(context, IDS[40:60]), BatchRow(Context(), IDS[60:])])


@pytest.mark.parametrize("name", PACKED)
def test_surprisal_on_every_gpu_is_that_of_the_cpu(name: str) -> None:
    expected = surprisals(name, "cpu", torch.float32)
    for number in range(torch.cuda.device_count()):
        for row, wanted in zip(surprisals(name, f"cuda:{number}", torch.float32), expected, strict=True):
            np.testing.assert_allclose(row, wanted, atol=1e-3)


@pytest.mark.parametrize("name", PACKED)
def test_bfloat16_stays_close(name: str) -> None:
    expected = np.concatenate(surprisals(name, "cpu", torch.float32))
    got = np.concatenate(surprisals(name, "cuda", torch.bfloat16))
    assert float(np.abs(got - expected).mean()) < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 7, 40])
@pytest.mark.parametrize("most", [1 << 17, 60])
def test_the_kernel_without_padding_attends_as_a_mask_does(
    dtype: torch.dtype, window: int | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "MOST_KEYS", most)
    generator = torch.Generator("cuda").manual_seed(3)
    pool, rows = TokenPool(400), []
    for start, new in [(0, 5), (30, 1), (17, 40), (0, 33), (64, 64)]:
        cache = PooledKeyValues(pool)
        cache.reserve(0, start + new)
        rows.append((cache, start))
    size = sum(len(cache.slots) - start for cache, start in rows)
    past = torch.randn((2, 400, 2, 64), generator=generator, device="cuda", dtype=dtype)
    pool._layers[0] = past[0].clone(), past[1].clone()
    query = torch.randn((1, 4, size, 64), generator=generator, device="cuda", dtype=dtype)
    key, value = torch.randn((2, 1, 2, size, 64), generator=generator, device="cuda", dtype=dtype)
    slots = torch.from_numpy(np.concatenate([cache.slots[start:] for cache, start in rows])).cuda()
    options = Options(0.2, window=window)
    assert pooled.serves(query, value, options)
    found = PooledRows(pool, rows, slots).attend((query, key, value), options)
    monkeypatch.setattr(pooled, "serves", lambda *_: False)
    masked = PooledRows(pool, rows, slots).attend((query, key, value), options)
    torch.testing.assert_close(found, masked, atol=2e-2, rtol=2e-2)


def test_memory_that_is_planned_is_not_exceeded() -> None:
    """The pool and a full batch fit into what the arithmetic gave out, so nothing is found by running out."""
    scorer = causal_scorer(tiny("llama").to(device="cuda", dtype=torch.bfloat16), Allowance(share=0.2))
    assert isinstance(scorer, PooledScorer)
    allowed = 0.2 * free_bytes(torch.device("cuda"))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    rows = [BatchRow(Context((0,), IDS[:20]), IDS[:60]) for _ in range(scorer.batch_tokens // 81)]
    scorer.score(rows)
    assert torch.cuda.max_memory_allocated() - before <= allowed


@pytest.mark.parametrize("architecture", ["xlm-roberta", "bert"])
def test_an_encoder_in_half_precision_stays_close_to_itself_on_a_cpu(tmp_path: Path, architecture: str) -> None:
    folder = str(save_encoder(tmp_path, architecture, LINES))
    ids = [number % 20 + 5 for number in IDS]  # the tokenizer that was trained on a few lines has no more
    rows = [BatchRow(Context(), ids[:size]) for size in (3, 60, 17, 1)]
    expected = Loader(resolve(folder), "cpu", "float32").scorer("encoder").score(rows)
    scorer: Any = Loader(resolve(folder), "cuda", "bfloat16").scorer("encoder")
    found = scorer.score(rows)
    assert float(np.abs(np.concatenate(found) - np.concatenate(expected)).mean()) < 0.1
