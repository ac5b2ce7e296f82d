"""What the engine costs its host is told per method, of the engine alone."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.benchmarking import host
from jobs.benchmarking.host import CASES, BlankScorer, main
from lingua.engine.score import BatchRow, Context
from tests.models import fast_tokenizer


def test_every_case_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.Loader, "tokenizer", lambda _: fast_tokenizer())
    monkeypatch.setattr(host, "CASES", [(method, mix.partition(":")[0] + ":150") for method, mix in CASES])
    assert main(["--rows", "1", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [method for method, _ in CASES]
    assert all(float(line.split(" | ")[3].split()[0]) > 0 for line in lines)


def test_blank_answers_have_the_shape_of_a_models() -> None:
    row = BatchRow(Context(), [3, 4, 5])
    assert [one.shape for one in BlankScorer(vectors=False).score([row])] == [(3,)]
    (states,) = BlankScorer(vectors=True).score([row])
    np.testing.assert_allclose(np.linalg.norm(states, axis=1), 1, atol=1e-6)
