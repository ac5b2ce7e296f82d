"""GGUF file → ordinary model directory in the local cache, once per node: loads in a second, not in half a minute.

The cache is ``$LINGUA_CACHE``, else ``~/.cache/lingua``; entries are named by the file's digest and may be deleted.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingua.models.source import ModelSource, cache_directory


def converted(source: ModelSource) -> ModelSource:
    """The same model as a directory with safetensors and tokenizer, converted to float32 on this node's first use."""
    folder = cache_directory() / f"{Path(source.gguf or source.name).stem}-{source.digest[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _convert(source, folder)
    return ModelSource(source.name, str(folder))


def _convert(source: ModelSource, folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
            tokenizer = AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf)
            model = AutoModelForCausalLM.from_pretrained(source.location, gguf_file=source.gguf, dtype=torch.float32)
        _unquantised(model).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unquantised(model: Any) -> Any:
    """A model loaded from GGUF calls itself quantised and will not be saved; a fresh one with its weights will."""
    settings = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config = type(model.config).from_dict(settings)
    fresh: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(model.state_dict())
    return fresh
