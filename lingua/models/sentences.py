"""How an encoder understands the tokens of a text: their states, batched by the engine as surprisal is.

A row's probe is a window of text in the encoder's own tokens. Weights are loaded with the first one: a corpus without
questions asks for none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lingua.models.padded import PaddedScorer
from lingua.score import Surprisal

WINDOW = 256
"""Tokens that are read at once: what encoders of sentences were trained with, or fewer."""


class StateScorer(PaddedScorer):
    """Answers the engine with the last hidden state of each of a probe's tokens [t, d], of length 1.

    A program holds the states of its whole prompt, so prompts count in full: some hundred megabytes are alive.

    load    gives the model without a head, on `device`; called once, when it is needed
    """

    live_tokens = 1 << 19

    def __init__(self, load: Callable[[], Any], tokenizer: Any, device: torch.device) -> None:
        super().__init__(tokenizer, min(WINDOW, tokenizer.model_max_length), device)
        self.window = self.live_tokens
        self._load = load

    @cached_property
    def _model(self) -> Any:
        return self._load()

    def _values(self, output: Any) -> Tensor:
        return F.normalize(output.last_hidden_state, dim=-1).float()

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        begin = len(self._before)
        return values[begin : begin + size].copy()
