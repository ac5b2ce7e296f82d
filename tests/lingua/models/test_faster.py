"""Other ways to compute a causal model: 8-bit weights and compiled layers, asked for by settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lingua.compressor import Compressor
from lingua.config import CompressionConfig
from lingua.engine.score import BatchRow, Context
from lingua.errors import ConfigError, ModelError
from lingua.methods import METHODS
from lingua.models import load
from lingua.models.causal import PackedScorer, PooledScorer
from lingua.models.int8 import Int8Linear, to_int8
from lingua.models.load import fast_scorer, require_compiler
from lingua.models.trial import causal_scorer
from lingua.prompt import CompressedPrompt, Prompt
from tests.lingua.models.test_causal import TEXT
from tests.lingua.models.test_pool import close
from tests.models import save, tiny


def rows() -> list[BatchRow]:
    return [BatchRow(Context((0,), TEXT[:a]), TEXT[a : a + 20]) for a in (0, 9, 30)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_rounded_by_output_channel(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 40).to(dtype).requires_grad_(False)
    linear.weight *= torch.logspace(-1, 2, 40)[:, None].to(dtype)
    rounded = Int8Linear(linear)
    states = torch.randn(7, 64).to(dtype)
    error = (rounded.weight.float() * rounded.scale.float() - linear.weight.float()).abs().amax(1)
    largest = linear.weight.float().abs().amax(1)
    assert (error <= largest * (0.5 / 127 + torch.finfo(dtype).eps)).all()
    found, expected = rounded(states), linear(states)
    assert found.dtype == dtype
    assert float((found - expected).float().norm() / expected.float().norm()) < 0.02


def test_a_row_of_zeros_stays_zero() -> None:
    linear = nn.Linear(4, 2, bias=False).requires_grad_(False)
    nn.init.zeros_(linear.weight)
    assert not Int8Linear(linear)(torch.ones(1, 4)).any()


@pytest.mark.parametrize("name", ["llama", "qwen2 sliding", "gemma2 softcap"])
def test_a_model_with_8_bit_weights_runs_packed_and_stays_close(name: str) -> None:
    model = tiny(name)
    to_int8(model.get_decoder())
    scorer = causal_scorer(model)
    assert isinstance(scorer, PackedScorer)
    assert not any(type(module) is nn.Linear for module in model.get_decoder().modules())
    found, expected = scorer.score(rows()), causal_scorer(tiny(name)).score(rows())
    assert 0 < float(np.abs(np.concatenate(found) - np.concatenate(expected)).mean()) < 0.2


def test_a_row_s_answer_does_not_depend_on_its_neighbours() -> None:
    model = tiny("llama")
    to_int8(model.get_decoder())
    scorer = causal_scorer(model)
    close(scorer.score(rows()), [scorer.score([row])[0] for row in rows()])


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
    scorer.compile(counting)  # type: ignore[arg-type]
    for batch, wanted in zip(batches_of_all_sizes(), expected, strict=True):
        close(scorer.score(batch), wanted)
    assert graphs == [2]


def test_a_decoder_that_is_more_than_one_graph_is_refused() -> None:
    torch._dynamo.reset()
    model = tiny("llama")
    scorer = causal_scorer(model)
    assert isinstance(scorer, PackedScorer)
    model.model.layers[1].register_forward_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(ModelError, match=r"LlamaModel does not compile as one graph.*leave compile off"):
        scorer.compile("eager")


def test_a_model_that_runs_row_by_row_is_not_compiled() -> None:
    with pytest.raises(ModelError, match=r"row by row.*leave compile off"):
        fast_scorer(tiny("bloom"), compiled=True)


def test_where_torch_cannot_compile_it_is_said_before_a_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(load.torch, "compile", broken)
    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    config = CompressionConfig(method="selective", compile=True)
    with pytest.raises(ModelError, match=r"compile: .*No working C\+\+ compiler found.*leave compile off"):
        Compressor(str(save(tmp_path)), config, device="cpu")
    with pytest.raises(ModelError):
        require_compiler(torch.device("cpu"))


def test_int8_weights_by_a_setting(tmp_path: Path) -> None:
    compressor = Compressor(str(save(tmp_path)), CompressionConfig(method="selective"), device="cpu", dtype="float32")
    rounded = compressor.using(CompressionConfig(method="selective", weights="int8"))
    assert compressor.using(CompressionConfig(method="selective", rate=0.3))._scorer is compressor._scorer
    assert rounded._scorer is not compressor._scorer
    assert rounded.digest != compressor.digest
    (outcome,) = rounded.compress([Prompt(context=["A text of several words, half of which is kept. " * 3])])
    assert isinstance(outcome, CompressedPrompt)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs != "causal"])
def test_settings_of_a_causal_model_are_refused_where_there_is_none(method: Any) -> None:
    for setting in ({"weights": "int8"}, {"compile": True}):
        with pytest.raises(ConfigError, match=f"{next(iter(setting))}.*{method}"):
            CompressionConfig(method=method, **setting)
