"""Model name → tokenizer, and scorer on a device: hub id, local directory, GGUF file or installed package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from lingua.engine import Scorer
from lingua.errors import ModelError
from lingua.models.causal import causal_scorer
from lingua.models.gguf import converted
from lingua.models.source import ModelSource

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads what a model name stands for. All methods raise ModelError with the cause."""

    source: ModelSource
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False

    def tokenizer(self) -> Any:
        return self._load(AutoTokenizer)

    def scorer(self, needs: Literal["causal", "encoder"], batch_tokens: int | None = None) -> Scorer:
        """The model on its device, ready to answer the engine."""
        device = choose_device(self.device)
        model = self._load(AutoModelForCausalLM, dtype=choose_dtype(self.dtype, device))
        return causal_scorer(model.to(device).eval().requires_grad_(False), batch_tokens)

    def _load(self, kind: Any, **arguments: Any) -> Any:
        with _quietly(), _explained(self.source):
            source = converted(self.source) if self.source.gguf else self.source
            arguments |= {"trust_remote_code": self.trust_remote_code, **source.load_arguments}
            return kind.from_pretrained(source.location, **arguments)


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
