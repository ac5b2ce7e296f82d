"""The model that is measured: the same weights for our engine, for the plain forward pass and for the peer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from jobs.benchmarking.peer_files import peer_copy
from jobs.benchmarking.shapes import PREFIX, SHAPES, random_model, trained_tokenizer
from lingua.engine.score import Scorer
from lingua.errors import ConfigError, ModelError
from lingua.methods import METHODS
from lingua.models.encoders import encoder_scorer
from lingua.models.load import choose_device, choose_dtype, converted, fast_scorer, place
from lingua.models.sizing import Allowance
from lingua.models.source import resolve

PLAIN_ATTENTION = "sdpa"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on its device with its tokenizer; `location` is its directory, None for weights that are not on disk."""

    name: str
    model: Any
    tokenizer: Any
    location: Path | None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def is_encoder(self) -> bool:
        return self.model.get_output_embeddings() is None

    @property
    def window(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def scorer(self, allowance: Allowance, way: str | None = None) -> Scorer:
        """What answers our engine; `way`: with ``compile``, which changes the model. Raises ModelError."""
        if self.is_encoder:
            return encoder_scorer(self.model, self.tokenizer, allowance)
        model = place(self.model, self.device)
        return fast_scorer(model, allowance, compiled=way == "compile")

    @contextmanager
    def plain(self) -> Iterator[Any]:
        """The model with transformers' own attention, for as long as the context lasts."""
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation(PLAIN_ATTENTION)
        try:
            yield self.model
        finally:
            self.model.set_attn_implementation(before)

    def for_peer(self, folder: Path) -> Path:
        """A directory below `folder` with these weights for the peer, who knows encoders by their directory's name."""
        location = self.location
        if location is None:
            location = folder / "weights"
            with self.plain() as model:
                model.save_pretrained(location)
            self.tokenizer.save_pretrained(location)
        return peer_copy(location, folder / ("xlm-roberta-large" if self.is_encoder else "model"))


def load_subject(name: str, place: tuple[str, str], method: str, seed: int) -> Subject:
    """The model called `name` on `place` (device, dtype). Raises ModelError; ConfigError if it cannot do `method`."""
    device = choose_device(place[0])
    dtype = choose_dtype(place[1], device)
    found = _random(name, device, dtype, seed) if name.startswith(PREFIX) else _loaded(name, device, dtype, method)
    needed = METHODS[method].needs
    if needed != ("encoder" if found.is_encoder else "causal"):
        raise ConfigError(f"--method {method} needs {needed!r}, --model {name} is not that")
    return found


def _random(name: str, device: torch.device, dtype: torch.dtype, seed: int) -> Subject:
    shape = name.removeprefix(PREFIX)
    if shape not in SHAPES:
        raise ConfigError(f"--model {name}: no such shape; there are {', '.join(PREFIX + known for known in SHAPES)}")
    config = SHAPES[shape]()
    return Subject(name, random_model(config, device, dtype, seed), trained_tokenizer(config), None)


def _loaded(name: str, device: torch.device, dtype: torch.dtype, method: str) -> Subject:
    kind: Any = AutoModelForTokenClassification if METHODS[method].needs == "encoder" else AutoModelForCausalLM
    source = resolve(name)
    source = converted(source) if source.gguf else source
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = kind.from_pretrained(source.location, dtype=dtype, **source.load_arguments)
        tokenizer = AutoTokenizer.from_pretrained(source.location, **source.load_arguments)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r} cannot be loaded: {error}") from error
    location = Path(source.location) if source.local else None
    return Subject(name, model.to(device).eval().requires_grad_(False), tokenizer, location)
