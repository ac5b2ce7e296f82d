"""A model directory as the peer's older transformers can read it: the same weights, configuration rewritten.

transformers 5 writes `rope_parameters`, `dtype` and tokenizer classes that 4.47 does not know. Weights are linked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_REWRITTEN = ("config.json", "tokenizer_config.json")


def peer_copy(directory: Path, target: Path) -> Path:
    """Make `target` a copy of the model in `directory` that transformers 4.47 loads; returns `target`."""
    target.mkdir(parents=True)
    for file in directory.iterdir():
        if file.is_file() and file.name not in _REWRITTEN:
            (target / file.name).symlink_to(file.resolve())
    for name, rewrite in (("config.json", old_config), ("tokenizer_config.json", old_tokenizer)):
        record = json.loads((directory / name).read_text(encoding="utf-8"))
        (target / name).write_text(json.dumps(rewrite(record), indent=2), encoding="utf-8")
    return target


def old_config(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` at the top level, `torch_dtype` instead of `dtype`."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    old["torch_dtype"] = config.get("dtype") or config.get("torch_dtype") or "float32"
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        old["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        old["rope_scaling"] = rope
    return old


def old_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """The generic fast tokenizer, which every version has; special tokens stay."""
    known = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")}
    return known | {"tokenizer_class": "PreTrainedTokenizerFast"}
