"""On a GPU the numbers are those of the CPU; skipped where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lingua.models.causal import PackedScorer, causal_scorer
from lingua.score import Context, Row, Surprisal
from tests.models import PACKED, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IDS = np.random.default_rng(5).integers(3, 500, 90).tolist()


def surprisals(name: str, device: str, dtype: torch.dtype) -> Sequence[Surprisal]:
    """Of two rows in one batch, the first after a context that was cached by an earlier request."""
    scorer = causal_scorer(tiny(name).to(device=device, dtype=dtype))
    assert isinstance(scorer, PackedScorer)
    context = Context(ids=IDS[:20])
    scorer.score([Row(context, IDS[20:30])])
    context.ids.extend(IDS[20:40])
    return scorer.score([Row(context, IDS[40:60]), Row(Context(), IDS[60:])])


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
