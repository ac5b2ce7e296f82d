"""Keep probability of tokens by any token-classification encoder of transformers, as LLMLingua-2 uses it.

Windows are read as `padded` says; which ones a text is cut into is the method's business (arXiv 2403.12968).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lingua.errors import ModelError
from lingua.models.padded import PaddedScorer, positions
from lingua.models.sizing import USUAL, Allowance, encoder_batch
from lingua.models.unpadded import unpadded
from lingua.score import Surprisal

_TRIED = 200
"""Tokens with which it is tried out whether a model can do without padding."""
_KEEP_LABELS = ("keep", "kept", "preserve", "preserved", "1")


class EncoderScorer(PaddedScorer):
    """Answers the engine with the probability, in [0, 1], that each probe token is kept.

    window   positions of the model; `probe_tokens` of them are left for text
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int | None = None) -> None:
        super().__init__(tokenizer, positions(model), next(model.parameters()).device, batch_tokens)
        self._model = model
        self._pad = int(model.config.pad_token_id or 0)  # positions may be counted by it
        self._keep = keep_label(model.config)

    def _values(self, output: Any) -> Tensor:
        return torch.softmax(output.logits.float(), -1)[..., self._keep]

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        begin = len(self._before)
        return values[begin : begin + size].copy()


def encoder_scorer(model: Any, tokenizer: Any, allowance: Allowance = USUAL) -> EncoderScorer:
    """The scorer, without padding where the model says the same so; the model is then of use to nobody else."""
    device = next(model.parameters()).device
    scorer = EncoderScorer(model, tokenizer, encoder_batch(model.config, model.dtype, device, allowance))
    some = [one for one in range(min(_TRIED, model.config.vocab_size)) if one != model.config.pad_token_id]
    scorer._unpadded = unpadded(model, scorer.window, some)
    return scorer


def keep_label(config: Any) -> int:
    """Index of the label that means *keep*: the one that `label2id` names so, else 1 as in the published models.

    Raises ModelError for a model with fewer than two labels.
    """
    if config.num_labels < 2:
        raise ModelError(f"a token classifier needs the labels drop and keep, this model has {config.num_labels}")
    named = {str(name).lower(): int(index) for name, index in (config.label2id or {}).items()}
    return next((named[name] for name in _KEEP_LABELS if name in named), 1)
