"""Small real models with random weights, and a byte-level tokenizer trained on the spot: no download, no waiting.

Weights are drawn wide, so that the predictions differ from token to token as those of a trained model do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lingua.text.tokens import SourceTokenizer
from tests.texts import NASTY, PROSE

WINDOW = 96
_SIZES = {
    "vocab_size": 500,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": WINDOW}
_GEMMA = _GROUPED | {"head_dim": 8, "sliding_window": 10, "query_pre_attn_scalar": 8}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}

PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED),
    "gpt2": ("GPT2Config", _SIZES | {"n_positions": WINDOW}),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen2 sliding": ("Qwen2Config", _GROUPED | _LAYERS | {"use_sliding_window": True, "sliding_window": 10}),
    "qwen3": ("Qwen3Config", _GROUPED | {"head_dim": 8}),
    "mistral sliding": ("MistralConfig", _GROUPED | {"sliding_window": 10}),
    "cohere2": ("Cohere2Config", _GROUPED | _LAYERS | {"logit_scale": 0.25, "sliding_window": 10}),
    "granite": ("GraniteConfig", _GROUPED | {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "gemma2 softcap": ("Gemma2Config", _GEMMA | _LAYERS | {"attn_logit_softcapping": 2.0}),
    "gemma3 sliding": ("Gemma3TextConfig", _GEMMA | _LAYERS),
}
"""Architectures that run packed: name → configuration class and its settings."""

UNPACKED: dict[str, tuple[str, dict[str, Any]]] = {"bloom": ("BloomConfig", _SIZES)}
"""Architectures without transformers' attention interface."""


def tiny(name: str) -> Any:
    """A fresh random model in float32, the same one each time."""
    return made(name)


def made(name: str, **changed: Any) -> Any:
    """The same with some settings changed."""
    kind, settings = (PACKED | UNPACKED)[name]
    torch.manual_seed(7)
    config = getattr(transformers, kind)(**settings | changed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval().requires_grad_(False)


@cache
def fast_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with 500 tokens: every string has tokens, rare characters have several."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(_SIZES["vocab_size"]),
        special_tokens=["<s>", "</s>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([PROSE * 2, *NASTY.values()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@cache
def tokenizer() -> SourceTokenizer:
    return SourceTokenizer(fast_tokenizer())


def save(folder: Path, name: str = "llama") -> Path:
    """A model directory as users have it."""
    tiny(name).save_pretrained(folder)
    fast_tokenizer().save_pretrained(folder)
    return folder
