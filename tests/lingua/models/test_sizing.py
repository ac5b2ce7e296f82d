"""Memory by arithmetic: what is handed out fits; a smaller memory gets smaller batches first."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from lingua.errors import ModelError
from lingua.models.sizing import (
    USUAL,
    Allowance,
    ModelShape,
    Sizes,
    choose_sizes,
    encoder_batch,
    free_bytes,
    is_out_of_memory,
    on_gpu,
)

GIB = 1 << 30
SEVEN = LlamaConfig()
SMALL = LlamaConfig(
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1_536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
)


@pytest.mark.parametrize("config", [SEVEN, SMALL])
@pytest.mark.parametrize("gibibytes", [8, 24, 66, 126])
@pytest.mark.parametrize("asked", [None, 100, 16_384, 1_000_000])
def test_everything_that_is_alive_fits(config: LlamaConfig, gibibytes: int, asked: int | None) -> None:
    shape = ModelShape.of(config, torch.bfloat16)
    sizes = on_gpu(shape, gibibytes * GIB * 3 // 4, asked)
    taken = sizes.pool_tokens * shape.per_context_token + shape.activations(sizes.batch_tokens)
    assert taken + shape.gathered + shape.logits <= 0.75 * gibibytes * GIB
    assert sizes.live_tokens + 2 * sizes.batch_tokens <= sizes.pool_tokens


def test_keys_and_values_of_a_token_take_what_the_configuration_says() -> None:
    assert ModelShape.of(SEVEN, torch.bfloat16).per_context_token == 2 * 32 * 4_096 * 2
    assert ModelShape.of(SMALL, torch.float32).per_context_token == 2 * 30 * 3 * 64 * 4


def test_a_large_memory_leaves_batches_as_they_are_and_a_small_one_shrinks_them() -> None:
    shape = ModelShape.of(SMALL, torch.bfloat16)
    assert on_gpu(shape, 50 * GIB, None).batch_tokens == 16_384
    assert on_gpu(shape, 1 * GIB, None).batch_tokens < 16_384
    assert on_gpu(shape, 50 * GIB, 4_096).batch_tokens == 4_096


def test_batches_are_no_larger_than_the_programs_that_fit_can_fill_unless_one_is_asked_for() -> None:
    shape = ModelShape.of(SEVEN, torch.bfloat16)
    chosen, asked = on_gpu(shape, 50 * GIB, None), on_gpu(shape, 50 * GIB, 16_384)
    assert chosen.batch_tokens == 4_096
    assert asked.batch_tokens == 16_384
    assert chosen.live_tokens > 1.3 * asked.live_tokens


def test_a_memory_without_room_for_contexts_says_so() -> None:
    with pytest.raises(ModelError, match="1024 MiB"):
        on_gpu(ModelShape.of(SEVEN, torch.bfloat16), GIB, None)


def test_a_cpu_is_bounded_by_its_memory() -> None:
    sizes = choose_sizes(SMALL, torch.float32, torch.device("cpu"), USUAL)
    assert 0 < sizes.live_tokens * ModelShape.of(SMALL, torch.float32).per_context_token <= GIB // 2
    assert sizes.batch_tokens == 1_024


class Card:
    """A GPU of 80 GiB as torch describes it; `own` bytes hold this process's weights, `others` are other processes'."""

    def __init__(self, own: int, others: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.others, self.total = own, others, 80 * GIB
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (self.total - self.own - self.others, self.total))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: self.own)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: self.own)


CUDA = torch.device("cuda")


@pytest.mark.parametrize("asked", [None, 300, 8_192])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.75, 1.0])
def test_the_share_of_the_memory_is_kept_whatever_the_batch(
    share: float, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(14 * GIB, 0, monkeypatch)
    shape = ModelShape.of(SEVEN, torch.bfloat16)
    sizes = choose_sizes(SEVEN, torch.bfloat16, CUDA, Allowance(asked, share))
    taken = sizes.pool_tokens * shape.per_context_token + shape.activations(sizes.batch_tokens)
    assert 0.9 * share * 66 * GIB < taken + shape.gathered + shape.logits <= share * 66 * GIB


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_on_one_card_plan_what_is_theirs_whoever_comes_first(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = ModelShape.of(SMALL, torch.bfloat16)
    plans = []
    for _ in range(workers):
        Card(GIB, sum(plans) + len(plans) * GIB, monkeypatch)
        sizes = choose_sizes(SMALL, torch.bfloat16, CUDA, Allowance(card=1 / workers))
        plans.append(sizes.pool_tokens * shape.per_context_token + shape.activations(sizes.batch_tokens))
    assert max(plans) - min(plans) < 0.01 * max(plans)
    assert sum(plans) + workers * GIB <= 80 * GIB


def test_a_card_that_others_fill_leaves_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(GIB, 70 * GIB, monkeypatch)
    assert free_bytes(CUDA, 1.0) == free_bytes(CUDA, 0.5) == 9 * GIB
    assert free_bytes(CUDA, 0.1) == 7 * GIB


def test_an_encoder_reads_less_at_once_where_little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(GIB, 0, monkeypatch)
    assert encoder_batch(SMALL, torch.bfloat16, CUDA, USUAL) == 32_768
    Card(GIB, 78 * GIB, monkeypatch)
    assert 512 <= encoder_batch(SMALL, torch.bfloat16, CUDA, USUAL) < 32_768


def test_a_smaller_pool_has_smaller_batches_before_it_has_no_room() -> None:
    sizes = Sizes(16_384, 100_000, 200_000)
    assert sizes.within(150_000) == Sizes(16_384, (150_000 - 32_768) * 4 // 5, 150_000)
    assert sizes.within(20_000).batch_tokens == 4_096
    assert sizes.within(20_000).live_tokens > 0


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_a_library_of_the_device_lacks_is_out_of_memory_too(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert is_out_of_memory(torch.OutOfMemoryError(text))
    assert not is_out_of_memory(ValueError(text))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
