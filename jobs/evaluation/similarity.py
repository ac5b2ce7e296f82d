"""`TokenSimilarity`: how near two texts are in meaning, by greedy matching of the hidden states of their tokens.

Follows BERTScore (arXiv 1904.09675, formulas 2 and 3 without weights by rarity and without rescaling): each token is
matched with the nearest token of the other text by cosine, recall and precision are the means, F1 is the score. The
encoder is small (`all-minilm-l6-v2` unless another is named), so scores compare with each other, not with published
ones. Longer texts are read in windows; special tokens do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lingua.memory import Array, Memory
from lingua.models.relevance import embedder

_WINDOW = 256


@dataclass(slots=True, eq=False)
class TokenSimilarity:
    """Similarity by the last hidden states of an encoder. References are read once for all replies."""

    model: Any
    tokenizer: Any
    memory: Memory = field(default_factory=Memory)

    def __call__(self, reply: str, answers: Sequence[str]) -> float:
        """F1 against the nearest answer, from 0 to 1 (1: the same tokens); 0 when either is empty."""
        said = self._states(reply)
        return max((_f1(said, self._known(answer)) for answer in answers), default=0.0)

    def _known(self, text: str) -> Array:
        states = self.memory.get(text)
        if states is None:
            states = self._states(text)
            self.memory.put(text, states)
        return states

    def _states(self, text: str) -> Array:
        """Unit vectors of the tokens [tokens, size]."""
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        windows = [self._window(ids[begin : begin + _WINDOW]) for begin in range(0, len(ids), _WINDOW)]
        return np.concatenate([np.zeros((0, self.model.config.hidden_size), np.float32), *windows])

    @torch.inference_mode()
    def _window(self, ids: Sequence[int]) -> Array:
        around = [self.tokenizer.cls_token_id], [self.tokenizer.sep_token_id]
        whole = torch.tensor([[*around[0], *ids, *around[1]]], device=self.model.device)
        states: Tensor = self.model(input_ids=whole, attention_mask=torch.ones_like(whole)).last_hidden_state
        vectors: Array = F.normalize(states[0, 1:-1].float(), dim=-1).cpu().numpy()
        return vectors


@cache
def default_similarity(model: str | None = None) -> TokenSimilarity:
    """Loaded once a process. ModelError when the model is not there."""
    found = embedder(model)
    return TokenSimilarity(found.model, found.tokenizer)


def _f1(said: Array, right: Array) -> float:
    if not len(said) or not len(right):
        return 0.0
    cosine = said @ right.T
    precision, recall = float(cosine.max(1).mean()), float(cosine.max(0).mean())
    return max(0.0, min(1.0, 2 * precision * recall / (precision + recall))) if precision + recall > 0 else 0.0
