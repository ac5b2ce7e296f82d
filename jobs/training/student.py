"""The small model in training: float32 weights, whole or behind LoRA; merged and saved as users have models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from jobs.training.align_settings import AlignConfig
from lingua.errors import ModelError
from lingua.models.gguf import converted
from lingua.models.source import ModelSource, resolve
from lingua.tokens import SourceTokenizer


def local_source(name: str) -> ModelSource:
    """Where a model's files are in a form that loads fast. ModelError when it is nowhere."""
    source = resolve(name)
    return converted(source) if source.gguf else source


def load_tokenizer(name: str, trust: bool = False) -> Any:
    """A model's tokenizer. ModelError with the cause."""
    return _load(AutoTokenizer, local_source(name), trust_remote_code=trust)


def load_causal(name: str, dtype: torch.dtype, trust: bool = False) -> Any:
    """A causal model on the CPU. ModelError with the cause."""
    return _load(AutoModelForCausalLM, local_source(name), dtype=dtype, trust_remote_code=trust)


def window_of(model: Any) -> int:
    """Tokens that a model reads at once, as its configuration says."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


class Student:
    """A small model that learns: `model` computes, `trained` are the weights that change."""

    def __init__(self, config: AlignConfig, device: torch.device) -> None:
        self._name, self._trust = config.model, config.trust_remote_code
        torch.manual_seed(config.seed)  # LoRA's first weights are drawn, and must be the same on all workers
        model = load_causal(self._name, torch.float32, self._trust)
        self.model = _behind_lora(model, config) if config.method == "lora" else model
        self.model.to(device)
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.enable_input_require_grads()

    def tokenizer(self) -> SourceTokenizer:
        """For reading; a fresh one, since this changes it."""
        return SourceTokenizer(load_tokenizer(self._name, self._trust))

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """Names and weights that change, each once."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def state(self) -> dict[str, Tensor]:
        """The weights that change, by name."""
        return {name: weight.detach() for name, weight in self.trained()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a `state`."""
        with torch.no_grad():
            for name, weight in self.trained():
                weight.copy_(state[name])

    def finish(self) -> Any:
        """The whole model as it will be saved: LoRA merged, in the precision that it came in."""
        source = local_source(self._name)
        was = _load(AutoConfig, source, trust_remote_code=self._trust).dtype
        if hasattr(self.model, "merge_and_unload"):
            self.model = self.model.merge_and_unload()
        self.model = self.model.to(was or torch.float32).eval().requires_grad_(False)
        return self.model

    def save(self, folder: Path, card: str) -> None:
        """A model directory: configuration, safetensors, tokenizer and its card. After `finish`."""
        self.model.save_pretrained(folder, max_shard_size="4GB")
        load_tokenizer(self._name, self._trust).save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _behind_lora(model: Any, config: AlignConfig) -> Any:
    """The model frozen, with small matrices that learn beside each of its own."""
    from peft import LoraConfig, get_peft_model  # takes seconds, for nothing where all weights are trained

    beside = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, beside)


def _load(kind: Any, source: ModelSource, **arguments: Any) -> Any:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # bars do not belong into a job's log
    try:
        return kind.from_pretrained(source.location, **arguments, **source.load_arguments)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"model {source.name!r} cannot be loaded from {source.location}: {error}") from error
