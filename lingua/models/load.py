"""Model name → model and tokenizer on a device: hub id, local directory, GGUF file or installed package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from lingua.errors import ModelError
from lingua.models.source import ModelSource, resolve

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def load_tokenizer(name: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of the model called `name`."""
    source = resolve(name)
    with _quietly(), _explained(source):
        return AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.load_arguments
        )


def load_causal(name: str, device: torch.device, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The causal language model called `name`, in evaluation mode on `device`. Raises ModelError."""
    source = resolve(name)
    with _quietly(), _explained(source):
        model = AutoModelForCausalLM.from_pretrained(
            source.location, dtype=dtype, trust_remote_code=trust_remote_code, **source.load_arguments
        )
        return model.to(device).eval().requires_grad_(False)


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
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
