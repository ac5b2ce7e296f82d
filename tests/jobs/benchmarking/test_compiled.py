"""Compiled decoders say what others do, for batches of every size; where none can be had, that is said at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs.benchmarking.compiled import compile_decoder
from lingua.engine.score import BatchRow, Context
from lingua.errors import ModelError
from lingua.models.causal import PackedScorer, PooledScorer
from lingua.models.trial import causal_scorer
from tests.lingua.models.test_causal import TEXT
from tests.lingua.models.test_pool import close
from tests.models import tiny


def rows() -> list[BatchRow]:
    return [BatchRow(Context((0,), TEXT[:a]), TEXT[a : a + 20]) for a in (0, 9, 30)]


def batches_of_all_sizes() -> list[list[BatchRow]]:
    """Of 1 to 119 tokens, in one row or several, with a past and without."""
    alone = [[BatchRow(Context((0,), TEXT[:a]), TEXT[a : a + b])] for a, b in ((0, 1), (9, 20), (30, 33), (0, 60))]
    return [*alone, rows(), rows()[1:], [BatchRow(Context(), TEXT[:1])]]


@pytest.mark.parametrize("kind", [PackedScorer, PooledScorer])
@pytest.mark.parametrize("name", ["llama", "qwen2 sliding", "gemma2 softcap", "gpt2"])
def test_a_compiled_decoder_is_one_graph_for_batches_of_all_sizes(name: str, kind: type[PackedScorer]) -> None:
    graphs: list[int] = []

    def counting(graph: Any, _: Any) -> Any:
        graphs.append(sum("packed_attention" in str(node.target) for node in graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    model = tiny(name)
    plain = causal_scorer(model)
    expected = [plain.score(batch) for batch in batches_of_all_sizes()]
    scorer = kind(model)
    compile_decoder(scorer, model, counting)  # type: ignore[arg-type]
    for batch, wanted in zip(batches_of_all_sizes(), expected, strict=True):
        close(scorer.score(batch), wanted)
    assert graphs == [2]


def test_a_decoder_that_is_more_than_one_graph_is_refused() -> None:
    torch._dynamo.reset()
    model = tiny("llama")
    scorer = causal_scorer(model)
    model.model.layers[1].register_forward_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(ModelError, match=r"LlamaModel does not compile as one graph.*leave it out"):
        compile_decoder(scorer, model, "eager")


def test_a_model_that_runs_row_by_row_is_not_compiled() -> None:
    model = tiny("bloom")
    with pytest.raises(ModelError, match=r"row by row.*leave it out"):
        compile_decoder(causal_scorer(model), model)


def test_where_torch_cannot_compile_its_cause_is_said() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    torch._dynamo.reset()
    model = tiny("llama")
    with pytest.raises(ModelError, match=r"No working C\+\+ compiler found.*leave it out"):
        compile_decoder(causal_scorer(model), model, broken)  # type: ignore[arg-type]
