"""A causal model's decoder compiled by torch: what `--beside compile` measures (the product runs decoders as they are).

One graph serves batches of every size: attention is an opaque operator in it, and batches are filled up to a multiple
of some tokens, as a single one would be compiled apart.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from lingua.engine.score import BatchRow, Context
from lingua.errors import ModelError
from lingua.explain import in_words
from lingua.models.causal import PackedScorer, PlainScorer
from lingua.models.packed import Options, batch_at_hand

COMPILED = "lingua_compiled"
_MULTIPLE = 8
_tokens: ContextVar[int] = ContextVar("tokens")
"""Of the batch at hand, without what fills it up."""


def compile_decoder(scorer: PlainScorer, model: Any, backend: str = "inductor") -> None:
    """Have the scorer's decoder compiled as one graph, and run it once. Changes scorer and model.

    Raises ModelError, with the cause, where the model runs row by row, and where its decoder does not compile.
    """
    if not isinstance(scorer, PackedScorer):
        raise ModelError(f"--beside compile: {type(model).__name__} runs {scorer.packing}; leave it out")
    model.set_attn_implementation(COMPILED)
    decoder = model.get_decoder()
    decoder.compile(dynamic=True, fullgraph=True, backend=backend)

    def filled_up(*, input_ids: Tensor, position_ids: Tensor, use_cache: bool) -> Any:
        more = (0, -input_ids.shape[1] % _MULTIPLE)
        _tokens.set(input_ids.shape[1])
        return decoder(input_ids=F.pad(input_ids, more), position_ids=F.pad(position_ids, more), use_cache=use_cache)

    scorer.decoder = filled_up
    try:
        scorer.score([BatchRow(Context(ids=[0] * 9), [0] * 12), BatchRow(Context(), [0] * 5)])
    except Exception as error:  # whatever torch meets: no C++ compiler, no Triton, no headers, a model's code
        raise ModelError(
            f"--beside compile: {type(decoder).__name__} does not compile as one graph here ({in_words(error)}); "
            "torch needs a C++ compiler, Python's headers and, on a GPU, Triton: install them or leave it out"
        ) from error


@torch.library.custom_op("lingua::packed_attention", mutates_args=())
def _operator(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, softcap: float | None, window: int | None
) -> Tensor:
    """Told nothing of its layer, which the batch counts: layers that differ in nothing else share what is compiled."""
    tokens = _tokens.get()
    states = (query[:, :, :tokens], key[:, :, :tokens], value[:, :, :tokens])
    found = batch_at_hand.get().attend(states, Options(scaling, softcap, window))
    more = query.shape[2] - tokens
    return F.pad(found, (0, 0, 0, 0, 0, more)) if more else found


@_operator.register_fake
def _shape(query: Tensor, key: Tensor, value: Tensor, *_: float | None) -> Tensor:
    return query.new_empty((1, query.shape[2], query.shape[1], value.shape[3]))


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As `packed_attention`."""
    return _operator(query, key, value, *map(options.get, ("scaling", "softcap", "sliding_window"))), None


AttentionInterface.register(COMPILED, _attention)
