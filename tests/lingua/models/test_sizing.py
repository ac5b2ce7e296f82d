"""Memory by arithmetic: what is handed out fits; a smaller memory gets smaller batches first."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from lingua.errors import ModelError
from lingua.models.sizing import Shape, choose_sizes, on_gpu

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
def test_everything_that_is_alive_fits(config: LlamaConfig, gibibytes: int) -> None:
    shape = Shape.of(config, torch.bfloat16)
    sizes = on_gpu(shape, gibibytes * GIB, None)
    taken = sizes.pool_tokens * shape.per_context_token + shape.activations(sizes.batch_tokens)
    assert taken + shape.gathered + shape.logits <= 0.75 * gibibytes * GIB
    assert sizes.live_tokens + 2 * sizes.batch_tokens <= sizes.pool_tokens


def test_keys_and_values_of_a_token_take_what_the_configuration_says() -> None:
    assert Shape.of(SEVEN, torch.bfloat16).per_context_token == 2 * 32 * 4_096 * 2
    assert Shape.of(SMALL, torch.float32).per_context_token == 2 * 30 * 3 * 64 * 4


def test_a_large_memory_leaves_batches_as_they_are_and_a_small_one_shrinks_them() -> None:
    shape = Shape.of(SEVEN, torch.bfloat16)
    assert on_gpu(shape, 66 * GIB, None).batch_tokens == 16_384
    assert on_gpu(shape, 10 * GIB, None).batch_tokens < 16_384
    assert on_gpu(shape, 66 * GIB, 4_096).batch_tokens == 4_096


def test_a_memory_without_room_for_contexts_says_so() -> None:
    with pytest.raises(ModelError, match="1024 MiB"):
        on_gpu(Shape.of(SEVEN, torch.bfloat16), GIB, None)


def test_a_cpu_is_bounded_by_its_memory() -> None:
    sizes = choose_sizes(SMALL, torch.float32, torch.device("cpu"), None)
    assert 0 < sizes.live_tokens * Shape.of(SMALL, torch.float32).per_context_token <= 2 * GIB
    assert sizes.batch_tokens == 1_024
