"""What sentences mean: unit vectors by any sentence-transformers encoder, batched by the engine as surprisal is.

A row's probe is a sentence in the encoder's own tokens and its answer a vector, whose size is the model's. Weights are
loaded with the first sentence: a corpus without questions asks for none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.utils.hub import cached_file

from lingua.models.padded import PaddedScorer
from lingua.models.source import ModelSource
from lingua.score import Surprisal

WINDOW = 256
"""Tokens of a sentence that are read at once: what these encoders were trained with, or fewer."""


class SentenceScorer(PaddedScorer):
    """Answers the engine with the unit vector [size] of each probe.

    load    gives the model without a head, on `device`; called once, when it is needed
    first   whether the first token's hidden state is the text's, instead of the mean of all
    """

    def __init__(self, load: Callable[[], Any], tokenizer: Any, device: torch.device, first: bool = False) -> None:
        super().__init__(tokenizer, min(WINDOW, tokenizer.model_max_length), device)
        self._load, self._first = load, first

    @cached_property
    def _model(self) -> Any:
        return self._load()

    def _compute(self, batch: dict[str, Tensor]) -> Tensor:
        hidden = self._model(**batch).last_hidden_state
        return pooled(hidden, batch["attention_mask"], self._first).float()

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        return values


def pooled(hidden: Tensor, mask: Tensor, first: bool) -> Tensor:
    """The unit vector [r, d] of each text from its hidden states [r, t, d]: the first token's, or the mean of all."""
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return F.normalize(hidden[:, 0] if first else mean, dim=-1)


def pools_first(source: ModelSource) -> bool:
    """What the settings of a sentence-transformers model say about pooling; the mean if there are none."""
    file = cached_file(
        source.location,
        "1_Pooling/config.json",
        revision=source.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    settings = json.loads(Path(file).read_text()) if file else {}
    return bool(settings.get("pooling_mode_cls_token")) or settings.get("pooling_mode") == "cls"
