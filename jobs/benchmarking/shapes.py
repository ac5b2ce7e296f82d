"""Published model shapes with random weights: speed does not depend on the weights' values.

Sizes as published by Qwen (Qwen2.5-0.5B), Meta (Llama-3.2-1B, Llama-2-7B), Hugging Face (SmolLM2-135M) and for
XLM-RoBERTa-large with two labels, as LLMLingua-2 uses it. Tokenizers are trained on our corpus, no larger than the
shape's vocabulary; the embedding and the head keep the published size. The tiny ones are for trying commands out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    XLMRobertaConfig,
)

from jobs.benchmarking.corpus import paragraphs

PREFIX = "shape:"
_TRAINED = 32_000
"""Entries of a trained vocabulary: what the corpus can fill."""


def _llama(hidden: int, layers: int, heads: tuple[int, int], **others: Any) -> LlamaConfig:
    """`heads`: of queries and of keys/values."""
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        **others,
    )


def _smollm2_135m() -> PreTrainedConfig:
    return _llama(
        576,
        30,
        (9, 3),
        intermediate_size=1536,
        vocab_size=49_152,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )


def _llama_3_2_1b() -> PreTrainedConfig:
    return _llama(
        2048,
        16,
        (32, 8),
        intermediate_size=8192,
        vocab_size=128_256,
        max_position_embeddings=131_072,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )


def _llama_2_7b() -> PreTrainedConfig:
    return _llama(
        4096,
        32,
        (32, 32),
        intermediate_size=11_008,
        vocab_size=32_000,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )


def _qwen_2_5_0_5b() -> PreTrainedConfig:
    return Qwen2Config(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        vocab_size=151_936,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )


def _xlm_roberta_large() -> PreTrainedConfig:
    return XLMRobertaConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        vocab_size=250_002,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )  # two labels, the default: drop and keep


def _tiny() -> PreTrainedConfig:
    return _llama(
        16,
        2,
        (2, 1),
        intermediate_size=32,
        vocab_size=600,
        max_position_embeddings=512,
    )


def _tiny_encoder() -> PreTrainedConfig:
    """With the windows of the published ones."""
    return XLMRobertaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=700,
        max_position_embeddings=514,
        type_vocab_size=1,
    )


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "smollm2-135m": _smollm2_135m,
    "qwen2.5-0.5b": _qwen_2_5_0_5b,
    "llama-3.2-1b": _llama_3_2_1b,
    "llama-2-7b": _llama_2_7b,
    "xlm-roberta-large": _xlm_roberta_large,
    "tiny": _tiny,
    "tiny-encoder": _tiny_encoder,
}


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
    size = min(config.vocab_size, _TRAINED)
    return _encoder_tokenizer(size) if is_encoder(config) else _byte_level(size)


def _byte_level(size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(paragraphs(), trainer)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(  # type: ignore[no-any-return]
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def _encoder_tokenizer(size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        paragraphs(), trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    wrap: Any = PreTrainedTokenizerFast
    return wrap(  # type: ignore[no-any-return]
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", **names
    )
