"""A model runs packed only where that gives its own numbers; otherwise the reason is said, and how near it came."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from lingua.engine.engine import Engine
from lingua.engine.score import BatchRow, Context
from lingua.errors import ModelError
from lingua.models import causal, trial
from lingua.models.causal import PackedScorer, PlainScorer, PooledScorer
from lingua.models.pooled import TokenPool
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer
from tests.lingua.models.test_causal import STEPS, TEXT, growing
from tests.lingua.models.test_pool import close
from tests.models import PACKED, made, tiny

SHORT, LONG = [1.0] * 4, [3.0] * 4
ROPES: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": SHORT,
        "long_factor": LONG,
        "original_max_position_embeddings": 48,
        "rope_theta": 10_000.0,
    },
}
STEADY = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}


@pytest.mark.parametrize("kind", ROPES)
def test_positions_that_depend_on_the_longest_row_are_read_row_by_row(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = made("llama", rope_parameters=ROPES[kind])
    with caplog.at_level(logging.WARNING):
        scorer = causal_scorer(model)
    assert type(scorer) is PlainScorer
    assert f"type {kind}" in scorer.packing
    assert scorer.packing.removeprefix("row by row: ") in caplog.text
    long, short = BatchRow(Context((0,), TEXT[:60]), TEXT[60:70]), BatchRow(Context((0,)), TEXT[:9])
    alone = [causal_scorer(made("llama", rope_parameters=ROPES[kind])).score([row])[0] for row in (long, short)]
    close(scorer.score([long, short]), alone)


def test_a_kind_of_layer_may_have_such_positions_of_its_own() -> None:
    ropes = {"full_attention": ROPES["dynamic"], "sliding_attention": STEADY}
    assert trial_refuses(made("gemma3 sliding", rope_parameters=ropes), "dynamic")


def trial_refuses(model: Any, why: str) -> bool:
    scorer = causal_scorer(model)
    return type(scorer) is PlainScorer and why in scorer.packing


def test_steady_positions_run_packed() -> None:
    assert type(causal_scorer(made("llama", rope_parameters=STEADY))) is PackedScorer


@pytest.mark.parametrize("name", PACKED)
def test_how_near_packed_answers_come_is_said(name: str) -> None:
    scorer = causal_scorer(tiny(name))
    assert scorer.packing.startswith("packed; differs from the plain forward by ")
    assert "0.001 allowed" in scorer.packing


@pytest.mark.parametrize("name", ["llama", "qwen2 sliding", "gemma2 softcap", "gpt2"])
def test_rounding_of_half_precision_is_no_disagreement(name: str) -> None:
    assert type(causal_scorer(tiny(name).bfloat16())) is PackedScorer


def leaky(model: Any) -> Any:
    """Each token also sees the state of the one before it, whatever row that is from: as a convolution would."""
    layer = model.model.layers[1]
    layer.register_forward_pre_hook(lambda _, given: (given[0] + 0.5 * pad(given[0], (0, 0, 1, -1)), *given[1:]))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_whose_rows_leak_into_each_other_is_refused(dtype: torch.dtype) -> None:
    assert trial_refuses(leaky(tiny("llama")).to(dtype), "its answers differ")


def test_a_model_that_reads_what_it_is_to_predict_is_refused() -> None:
    model = tiny("llama")
    model.model.layers[1].register_forward_pre_hook(lambda _, given: (given[0] + given[0].mean(1, True), *given[1:]))
    with pytest.raises(ModelError, match="LlamaForCausalLM is no causal model: later text moves its answers"):
        causal_scorer(model)


def test_a_model_with_a_layer_that_goes_its_own_way_is_refused() -> None:
    model = tiny("llama")
    eager = model.model.layers[1].self_attn
    eager.config = type(model.config)(**model.config.to_dict())
    eager.config._attn_implementation = "sdpa"
    assert trial_refuses(model, "attention of 1 of its 2 layers")


@pytest.mark.parametrize("what", ["softcap", "sliding_window"])
def test_attention_that_is_not_told_its_cap_or_window_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def untold(module: nn.Module, *states: Any, **options: Any) -> Any:
        return causal_attention(module, *states, **{key: value for key, value in options.items() if key != what})

    from transformers import AttentionInterface

    from lingua.models.packed import packed_attention as causal_attention

    monkeypatch.setitem(AttentionInterface._global_mapping, trial.PACKED, untold)  # put back at the end
    monkeypatch.setattr(trial, "packed_attention", untold)
    assert trial_refuses(made("gemma2 softcap", attn_logit_softcapping=500.0, sliding_window=60), "attention")


def test_a_model_with_capped_attention_is_compared_and_read_eagerly() -> None:
    model = tiny("gemma2 softcap")
    assert type(causal_scorer(model)) is PackedScorer
    broken = leaky(tiny("gemma2 softcap"))
    assert trial_refuses(broken, "differ")
    assert broken.config._attn_implementation == "eager"
    model = tiny("gemma2 softcap")
    model.set_attn_implementation = lambda name: (_ for _ in ()).throw(ValueError(name)) if name == "eager" else None
    model.config._attn_implementation = "sdpa"
    assert trial_refuses(model, "no eager attention")


def test_layers_of_other_kinds_are_refused_by_name() -> None:
    model = tiny("qwen2 sliding")
    model.config.layer_types = ["chunked_attention", "full_attention"]
    assert trial_refuses(model, "chunked_attention")


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_two_rows_that_share_a_context_are_an_error(name: str) -> None:
    context = Context((0,), TEXT[:9])
    with pytest.raises(ValueError, match="share one context"):
        causal_scorer(tiny(name)).score([BatchRow(context, TEXT[9:12]), BatchRow(context, TEXT[12:20])])


def test_too_little_memory_for_the_trial_is_no_reason_to_run_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> Any:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(PackedScorer, "_start", exhausted)
    with pytest.raises(ModelError, match=r"too small.*CUBLAS"):
        causal_scorer(tiny("llama"))


def pooled_trial(monkeypatch: pytest.MonkeyPatch) -> PooledScorer:
    """The scorer that a GPU would get."""
    monkeypatch.setattr(trial, "_scorer", lambda model, _, allowance: PooledScorer(model, allowance, TokenPool(1_024)))
    scorer = causal_scorer(tiny("llama"), Allowance(512))
    assert isinstance(scorer, PooledScorer)
    return scorer


def test_all_of_the_pool_is_taken_when_the_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = pooled_trial(monkeypatch)
    assert scorer.pool.layers == 2
    assert scorer.pool.left == scorer.pool.tokens == scorer._sizes.pool_tokens
    taken = {layer: keys.data_ptr() for layer, (keys, _) in scorer.pool._layers.items()}
    rows = [BatchRow(Context((0,), TEXT[a : a + 5]), TEXT[a + 5 : a + 30]) for a in (0, 40, 80)]
    close(scorer.score(rows), PlainScorer(tiny("llama")).score(rows))
    assert {layer: keys.data_ptr() for layer, (keys, _) in scorer.pool._layers.items()} == taken


@pytest.mark.parametrize("fails", [1, 4])
def test_a_pool_that_memory_does_not_hold_is_made_smaller(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = causal.TokenPool, list[int]()

    def short(tokens: int, like: TokenPool) -> TokenPool:
        tried.append(tokens)
        if len(tried) <= fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(tokens, like)

    monkeypatch.setattr(causal, "TokenPool", short)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    scorer = pooled_trial(monkeypatch)
    assert tried == sorted(tried, reverse=True)
    assert len(tried) == fails + 1
    assert scorer.pool.tokens == tried[-1]
    assert scorer.live_tokens + 2 * scorer.batch_tokens <= tried[-1]
    (found,) = Engine(scorer).run([growing((0,), STEPS)])
    close(found, next(iter(Engine(PlainScorer(tiny("llama"))).run([growing((0,), STEPS)]))))  # type: ignore[arg-type]


def test_no_memory_for_any_pool_is_said_when_the_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(causal, "TokenPool", never)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(ModelError, match="too little GPU memory"):
        pooled_trial(monkeypatch)


def test_a_batch_that_fails_gives_its_slots_back(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = pooled_trial(monkeypatch)
    context = Context((0,), TEXT[:20])
    scorer.score([BatchRow(context, TEXT[20:30])])
    left = scorer.pool.left
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "decoder", lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA")))
        with pytest.raises(causal.OutOfMemoryError):
            scorer.score([BatchRow(context, TEXT[20:50]), BatchRow(Context((0,)), TEXT[:9])])
    assert scorer.pool.left >= left
    wanted = PlainScorer(tiny("llama")).score([BatchRow(Context((0,), TEXT[:20]), TEXT[20:50])])
    close(scorer.score([BatchRow(context, TEXT[20:50])]), wanted)
    assert np.isfinite(wanted[0]).all()
