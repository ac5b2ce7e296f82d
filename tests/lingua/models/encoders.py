"""Tiny randomly initialised token classifiers of five architectures, with tokenizers trained on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForTokenClassification,
    BertConfig,
    MobileBertConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

ARCHITECTURES = ("xlm-roberta", "bert", "modernbert", "mmbert", "mobilebert")
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_BERT = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
_ROBERTA = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_GEMMA = {
    "bos_token": "<bos>",
    "cls_token": "<bos>",
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "sep_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def save_encoder(folder: Path, architecture: str, lines: Iterable[str], **settings: Any) -> Path:
    """Train a tokenizer on `lines`, draw weights from seed 0, and save both under `folder`; returns it."""
    tokenizer = train_tokenizer(architecture, lines)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": None}
    config = _config(architecture, vocab_size=len(tokenizer), **ids, **settings)
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the default is so small that all probabilities would be one half
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _config(architecture: str, **settings: Any) -> Any:
    if architecture == "bert":
        return BertConfig(**{"max_position_embeddings": 64} | _SIZES | settings)
    if architecture == "xlm-roberta":
        return XLMRobertaConfig(**{"max_position_embeddings": 66, "type_vocab_size": 1} | _SIZES | settings)
    if architecture in ("modernbert", "mmbert"):
        attention = {"local_attention": 16, "global_attn_every_n_layers": 2}
        return ModernBertConfig(**{"max_position_embeddings": 64} | attention | _SIZES | settings)
    bottleneck = {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}
    return MobileBertConfig(**{"max_position_embeddings": 64} | bottleneck | _SIZES | settings)


def train_tokenizer(architecture: str, lines: Iterable[str], size: int = 500) -> Any:
    """WordPiece as in BERT, Unigram with ``▁`` as in XLM-RoBERTa, byte pairs as in ModernBERT and mmBERT."""
    names = {"xlm-roberta": _ROBERTA, "mmbert": _GEMMA}.get(architecture, _BERT)
    special = list(dict.fromkeys(names.values()))
    tokenizer, trainer = _backend(architecture, special, size)
    tokenizer.train_from_iterator(lines, trainer)
    first, last = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _backend(architecture: str, special: list[str], size: int) -> tuple[Any, Any]:
    if architecture == "xlm-roberta":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        words = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    if architecture == "modernbert":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return tokenizer, trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    if architecture == "mmbert":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
        letters = [f"<0x{byte:02X}>" for byte in range(256)]
        return tokenizer, trainers.BpeTrainer(vocab_size=800, special_tokens=[*special, *letters], show_progress=False)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)


STORY = (
    "Anna opened her bakery in Lisbon in 1998. Every morning she sells muffins, bread and 240 small cakes to people "
    "who work in the harbour; most of them pay in coins. On 14 May a storm broke the large window. Was it the wind? "
    "Nobody knew, but the neighbours came with boards and nails, and by noon the shop was open again.\n"
    "Her brother Paulo drives the van. He says that the best customers are the fishermen, because they never complain "
    "and they always bring news. The council wants to move the market to the new square next year. Anna has written "
    "three letters against it. So far, the answer has been silence."
)
LINES = STORY.replace("\n", " ").split(". ") * 4
