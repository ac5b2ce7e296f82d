"""GGUF file → ordinary model directory in the local cache, once per node: loads in a second, not in half a minute.

The tokenizer stands in the file's head, so it gets a directory of its own where nobody asked for the weights: a method
without a language model converts none. The cache is ``$LINGUA_CACHE``, else ``~/.cache/lingua``; entries are named by
the file's digest and may be deleted.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingua.models.source import ModelSource, cache_directory


def converted(source: ModelSource) -> ModelSource:
    """The same model as a directory with safetensors and tokenizer, converted to float32 on this node's first use."""
    return _once(source, _folder(source), _convert)


def tokenizer_of(source: ModelSource) -> ModelSource:
    """The model's tokenizer alone as a directory; that of the converted model where there is one."""
    folder = _folder(source)
    return _once(source, folder if folder.is_dir() else folder.with_name(f"{folder.name}-tokenizer"), _save_tokenizer)


def _folder(source: ModelSource) -> Path:
    return cache_directory() / f"{Path(source.gguf or source.name).stem}-{source.digest[:12]}"


def _once(source: ModelSource, folder: Path, write: Callable[[ModelSource, Path], None]) -> ModelSource:
    """The folder, filled by whoever comes first."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                draft = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
                try:
                    write(source, draft)
                    draft.rename(folder)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
    return ModelSource(source.name, str(folder))


def _convert(source: ModelSource, folder: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(source.location, gguf_file=source.gguf, dtype=torch.float32)
    _unquantised(model).save_pretrained(folder)
    _save_tokenizer(source, folder)


def _save_tokenizer(source: ModelSource, folder: Path) -> None:
    AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf).save_pretrained(folder)


def _unquantised(model: Any) -> Any:
    """A model loaded from GGUF calls itself quantised and will not be saved; a fresh one with its weights will."""
    settings = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config = type(model.config).from_dict(settings)
    fresh: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(model.state_dict())
    return fresh
