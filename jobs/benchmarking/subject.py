"""The model that is measured: the same weights for our engine, for the plain forward pass and for the peer.

A model's name, or ``shape:NAME``: a published shape with random weights, as speed does not depend on their values.
Sizes as published by Hugging Face (SmolLM2-135M), Meta (Llama-2-7B) and for XLM-RoBERTa-large with two labels, as
LLMLingua-2 uses it. Tokenizers are trained on our corpus, no larger than the shape's vocabulary; the embedding and the
head keep the published size. The tiny ones are for trying commands out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer, SentencePieceBPETokenizer, Tokenizer, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from jobs.benchmarking.compiled import compile_decoder
from jobs.benchmarking.prompts import paragraphs
from jobs.generation import plain_attention
from jobs.peer import peer_copy
from lingua.engine.score import Scorer
from lingua.errors import ConfigError
from lingua.methods import METHODS
from lingua.models.encoders import EncoderScorer
from lingua.models.load import Loader, choose_device, choose_dtype, converted, place
from lingua.models.sizing import Allowance
from lingua.models.source import resolve
from lingua.models.trial import causal_scorer

PREFIX = "shape:"
_TRAINED = 32_000
"""Entries of a trained vocabulary: what the corpus can fill."""

_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "vocab_size", "max_position_embeddings"),
)


def _shape(kind: Any, *sizes: int, **others: Any) -> Callable[[], PreTrainedConfig]:
    """A configuration with `sizes` in the order of `_SIZES`."""
    return partial(kind, **dict(zip(_SIZES, sizes, strict=True)), **others)


_SMOLLM2: dict[str, Any] = {
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}
SHAPES = {
    "smollm2-135m": _shape(LlamaConfig, 576, 30, 9, 1_536, 49_152, 8_192, **_SMOLLM2),
    "llama-2-7b": _shape(LlamaConfig, 4_096, 32, 32, 11_008, 32_000, 4_096),
    "xlm-roberta-large": _shape(XLMRobertaConfig, 1_024, 24, 16, 4_096, 250_002, 514, type_vocab_size=1),
    "tiny": _shape(LlamaConfig, 16, 2, 2, 32, 600, 512, num_key_value_heads=1),
    "tiny-encoder": _shape(XLMRobertaConfig, 16, 2, 2, 32, 700, 514, type_vocab_size=1),
}
"""Encoders have two labels, the default: drop and keep."""


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

    def scorer(self, allowance: Allowance, compiled: bool = False) -> Scorer:
        """What answers our engine; `compiled`: by torch, which changes the model. Raises ModelError."""
        if self.is_encoder:
            return EncoderScorer(self.model, self.tokenizer, allowance)
        scorer = causal_scorer(place(self.model, self.device), allowance)
        if compiled:
            compile_decoder(scorer, self.model)
        return scorer

    def for_peer(self, folder: Path) -> Path:
        """A directory below `folder` with these weights for the peer, who knows encoders by their directory's name."""
        location = self.location
        if location is None:
            location = folder / "weights"
            with plain_attention(self.model) as model:
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
    source = converted(resolve(name))
    loader, location = Loader(source), Path(source.location) if source.local else None
    model = loader.load(kind, dtype=dtype).to(device).eval().requires_grad_(False)
    return Subject(name, model, loader.tokenizer(), location)


# ---- random weights


def is_encoder(config: PreTrainedConfig) -> bool:
    return isinstance(config, XLMRobertaConfig)


def random_model(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """A model of this shape, its weights drawn on the device."""
    kind: Any = AutoModelForTokenClassification if is_encoder(config) else AutoModelForCausalLM
    torch.manual_seed(seed)
    with device:
        model = kind.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)


def trained_tokenizer(config: PreTrainedConfig) -> PreTrainedTokenizerFast:
    """A tokenizer for this shape: byte-level BPE for language models, word pieces marked by ▁ for encoders."""
    special, names = ["<unk>", "<s>", "</s>"], {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    untrained: Any = ByteLevelBPETokenizer
    if is_encoder(config):
        special, untrained = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], SentencePieceBPETokenizer
        names |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    trained = untrained()
    size = min(config.vocab_size, _TRAINED)
    trained.train_from_iterator(
        paragraphs(), vocab_size=size, min_frequency=1, special_tokens=special, show_progress=False
    )
    if is_encoder(config):
        trained.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    wrap: Any = PreTrainedTokenizerFast
    pad = "<pad>" if is_encoder(config) else "</s>"
    return wrap(tokenizer_object=Tokenizer.from_str(trained.to_str()), pad_token=pad, **names)  # type: ignore[no-any-return]
