"""Model name → tokenizer, and scorer on a device: hub id, local directory, GGUF file or installed package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import logging

from lingua.errors import ModelError
from lingua.models.causal import causal_scorer
from lingua.models.compiled import compile_layers, require_compiler
from lingua.models.encoder import encoder_scorer
from lingua.models.gguf import converted
from lingua.models.int8 import to_int8
from lingua.models.sentences import StateScorer
from lingua.models.source import ModelSource
from lingua.score import Scorer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads what a model name stands for. All methods raise ModelError with the cause.

    int8, compiled   of a causal model: 8-bit weights, and its layers compiled by torch
    """

    source: ModelSource
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    int8: bool = False
    compiled: bool = False

    def tokenizer(self) -> Any:
        return self._load(AutoTokenizer)

    def scorer(self, needs: Literal["causal", "encoder", "sentences"], batch_tokens: int | None = None) -> Scorer:
        """The model on its device, ready to answer the engine."""
        device = choose_device(self.device)
        if needs == "sentences":
            return StateScorer(self.base, self.tokenizer(), device)
        dtype = choose_dtype(self.dtype, device)
        if needs == "encoder":
            return encoder_scorer(_on(device, self._classifier(dtype)), self.tokenizer(), batch_tokens)
        return self._causal(device, dtype, batch_tokens)

    def _causal(self, device: torch.device, dtype: torch.dtype, batch_tokens: int | None) -> Scorer:
        if self.compiled:
            require_compiler(device)
        model = self._load(AutoModelForCausalLM, dtype=dtype)
        return faster_scorer(model, device, batch_tokens, int8=self.int8, compiled=self.compiled)

    def base(self) -> Any:
        """The model without a head, on its device."""
        device = choose_device(self.device)
        return _on(device, self._load(AutoModel, dtype=choose_dtype(self.dtype, device)))

    def pair_classifier(self) -> Any:
        """A model that says how well two texts belong together, on its device."""
        device = choose_device(self.device)
        remedy = "is no cross-encoder", "to rank documents, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        return _on(device, self._trained(AutoModelForSequenceClassification, choose_dtype(self.dtype, device), remedy))

    def _classifier(self, dtype: torch.dtype) -> Any:
        """A token classifier."""
        example = "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
        remedy = "is no token classifier", f"to keep or drop tokens, such as {example}"
        return self._trained(AutoModelForTokenClassification, dtype, remedy)

    def _trained(self, kind: Any, dtype: torch.dtype, remedy: tuple[str, str]) -> Any:
        """A model with its head; one without a trained head would get a random one, so it is refused."""
        model, report = self._load(kind, dtype=dtype, output_loading_info=True)
        missing = sorted(report["missing_keys"])
        if missing:
            fault, purpose = remedy
            raise ModelError(
                f"model {self.source.name!r} {fault} (it has no {missing[0]}); give one that was trained {purpose}"
            )
        return model

    def _load(self, kind: Any, **arguments: Any) -> Any:
        with _quietly(), _explained(self.source):
            source = converted(self.source) if self.source.gguf else self.source
            arguments |= {"trust_remote_code": self.trust_remote_code, **source.load_arguments}
            return kind.from_pretrained(source.location, **arguments)


def faster_scorer(
    model: Any,
    device: torch.device,
    batch_tokens: int | None = None,
    *,
    int8: bool = False,
    compiled: bool = False,
    share: float = 1.0,
) -> Scorer:
    """A causal model's scorer on `device`, where only the 8-bit weights ever lie if `int8`. Changes the model."""
    if int8:
        to_int8(model.get_decoder())
    scorer = causal_scorer(_on(device, model), batch_tokens, share)
    if compiled:
        compile_layers(model.get_decoder(), int(model.config.get_text_config().num_hidden_layers))
    return scorer


def _on(device: torch.device, model: Any) -> Any:
    return model.to(device).eval().requires_grad_(False)


def choose_device(device: str) -> torch.device:
    """``auto``: the GPU if there is one. Raises ModelError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {device!r} cannot be used: {error}") from error
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on CUDA and on CPUs that multiply it in hardware, else float32."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" or _cpu_has_bfloat16() else torch.float32
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


@contextlib.contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"model {source.name!r} cannot be loaded from {source.location}: {error}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's progress bars out of job logs."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
