"""What the arguments of `llmlingua` 0.2.2 mean in the settings of this engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from lingua.compat_calls import Call, JsonCall, PromptCall
from lingua.errors import ConfigError
from lingua.structure.paths import key_path
from lingua.structure.pieces import Piece

RANKERS: dict[str, dict[str, str]] = {
    "sentbert": {"rank_method": "embedding", "rank_model": "sentence-transformers/multi-qa-mpnet-base-dot-v1"},
    "bge": {"rank_method": "embedding", "rank_model": "BAAI/bge-large-en-v1.5"},
    "bge_reranker": {"rank_method": "reranker", "rank_model": "BAAI/bge-reranker-large"},
}
_WITHOUT_EFFECT = ("force_context_number", "add_instruction", "chunk_end_tokens")


def loading(device_map: str, model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Compressor` that say how a model is loaded."""
    named = any(name in device_map for name in ("cpu", "mps", "cuda:"))
    known = {"torch_dtype", "dtype", "trust_remote_code", "pad_to_left"}
    _warn([f"model_config[{name!r}]" for name in model_config if name not in known])
    dtype = model_config.get("torch_dtype", model_config.get("dtype", "auto"))
    return {
        "device": device_map if named else "auto",
        "dtype": str(dtype).removeprefix("torch."),
        "trust_remote_code": bool(model_config.get("trust_remote_code", False)),
    }


def question_aware(call: Call) -> dict[str, Any]:
    """The settings of LongLLMLingua, if the call asks for any of it."""
    conditional = call.condition_compare or call.condition_in_question.endswith("_condition")
    ordered = call.reorder_context != "original" or call.dynamic_context_compression_ratio != 0
    if call.rank_method == "llmlingua" and not (conditional or ordered):
        return {}
    condition = call.condition_in_question.removesuffix("_condition")
    if call.rank_method in ("llmlingua", "longllmlingua"):
        condition = {"llmlingua": "none"}.get(call.rank_method, "after" if condition == "none" else condition)
    return {
        "method": "longllmlingua",
        "condition_in_question": condition,
        "condition_compare": call.condition_compare,
        "dynamic_context_compression_ratio": call.dynamic_context_compression_ratio,
        "reorder_context": call.reorder_context,
        **RANKERS.get(call.rank_method, {"rank_method": call.rank_method}),
    }


def segments(call: PromptCall) -> Iterator[list[Piece]]:
    """Context strings that come in segments, each with a rate and whether it is compressed at all."""
    texts = call.context_segs or ()
    rates: Sequence[Sequence[float | None]] = call.context_segs_rate or [[None] * len(one) for one in texts]
    switches = call.context_segs_compress or [[True] * len(one) for one in texts]
    for parts, own, compress in zip(texts, rates, switches, strict=True):
        yield [Piece(text, rate if switch else 1.0) for text, rate, switch in zip(parts, own, compress, strict=True)]


def rules(call: JsonCall) -> dict[str, object]:
    """Rules for key paths from the configuration of `compress_json`."""
    config = call.json_config
    if isinstance(config, str):
        config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    if not isinstance(config, Mapping) or set(config) != set(call.json_data):
        raise ConfigError("json_config must be a mapping (or a YAML file of one) with exactly the keys of json_data")
    return {key_path(key): entry["rate"] if entry.get("compress", True) else "keep" for key, entry in config.items()}


def warn_of_what_has_no_effect(call: Call) -> None:
    given = [field for field in fields(call) if field.name in _WITHOUT_EFFECT]
    _warn([field.name for field in given if _plain(getattr(call, field.name)) != _plain(field.default)])


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value


def _warn(names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"without effect here, see docs/moving-over.md: {', '.join(names)}", UserWarning, stacklevel=5)
