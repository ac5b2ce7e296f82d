"""Surprisal of responses under a causal model, many examples in one sequence: the loss when training, and the measure.

Needs a model that keeps examples apart by their positions; `Reader` tries that once on the model at hand, and reads one
example after the other where it does not (ALiBi, recurrent layers).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.training.packing import Tokens, pack

TOLERANCE = 1e-3


class Reader:
    """Reads packs with a model, which may be in training; `multiply_in` is what autocast multiplies in."""

    def __init__(self, model: Any, multiply_in: torch.dtype = torch.float32) -> None:
        self._model = model
        self.device = next(model.parameters()).device
        self._dtype = multiply_in
        parameters = inspect.signature(_innermost(model).forward).parameters
        self._selects, self._places = "logits_to_keep" in parameters, "position_ids" in parameters
        self.apart = self._keeps_apart()

    def surprisal(self, examples: Sequence[Tokens]) -> Tensor:
        """−ln p of every response token of a pack, in nats and in order, float32 [tokens]."""
        parts = [examples] if self.apart else [[example] for example in examples]
        return torch.cat([self._read(part) for part in parts])

    def each(self, examples: Sequence[Tokens], window: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """Surprisal of the responses of many examples, by example, without gradients."""
        found: dict[int, Any] = {}
        with torch.no_grad():
            for indices in pack(range(len(examples)), [len(example) for example in examples], window):
                chosen = [examples[index] for index in indices]
                values = self.surprisal(chosen).cpu().numpy()
                ends = np.cumsum([example.predicted for example in chosen])[:-1]
                found |= zip(indices, np.split(values, ends), strict=True)
        return [found[index] for index in range(len(examples))]

    def _read(self, examples: Sequence[Tokens]) -> Tensor:
        ids = np.concatenate([example.ids for example in examples])
        starts = np.cumsum([0, *map(len, examples)])[:-1]
        at = [start + np.arange(one.first, len(one)) for start, one in zip(starts, examples, strict=True)]
        tokens = torch.from_numpy(ids).to(self.device)
        predicted = torch.from_numpy(np.concatenate(at)).to(self.device)
        extra: dict[str, Tensor] = {"logits_to_keep": predicted - 1} if self._selects else {}
        if len(examples) > 1:
            places = np.concatenate([np.arange(len(example)) for example in examples])
            extra["position_ids"] = torch.from_numpy(places)[None].to(self.device)
        with self._autocast():
            logits = self._model(input_ids=tokens[None], use_cache=False, **extra).logits[0]
        logits = logits if self._selects else logits[predicted - 1]
        return F.cross_entropy(logits.float(), tokens[predicted], reduction="none")

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _keeps_apart(self) -> bool:
        """Whether two examples in one sequence read as each of them alone."""
        if not self._places:
            return False
        vocabulary = self._model.get_input_embeddings().weight.shape[0]
        draw = np.random.default_rng(0)
        two = [Tokens(draw.integers(vocabulary, size=size), 1, np.arange(size - 1)) for size in (7, 9)]
        was = self._model.training
        self._model.eval()
        dtype, self._dtype = self._dtype, torch.float32  # bfloat16 would hide a difference
        with torch.no_grad():
            together, alone = self._read(two), torch.cat([self._read([one]) for one in two])
        self._dtype = dtype
        self._model.train(was)
        return bool(torch.allclose(together, alone, rtol=TOLERANCE, atol=TOLERANCE))


def _innermost(model: Any) -> Any:
    """The model of transformers inside peft's wrappers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
