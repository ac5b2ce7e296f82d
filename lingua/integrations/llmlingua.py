"""The calls of `llmlingua` 0.2.2 as records, and what their arguments mean in the settings of this engine."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import yaml

from lingua.errors import ConfigError
from lingua.structured.paths import key_path
from lingua.structured.pieces import TextPiece

P = ParamSpec("P")
S = TypeVar("S")
C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Call:
    """What `compress_prompt` and `structured_compress_prompt` share."""

    context: Sequence[str] | str
    instruction: str = ""
    question: str = ""
    rate: float = 0.5
    target_token: float = -1
    iterative_size: int = 200
    force_context_ids: Sequence[int] | None = None
    force_context_number: int | None = None
    use_sentence_level_filter: bool = False
    use_context_level_filter: bool = True
    use_token_level_filter: bool = True
    keep_split: bool = False
    keep_first_sentence: int = 0
    keep_last_sentence: int = 0
    keep_sentence_number: int = 0
    high_priority_bonus: int = 100
    context_budget: str = "+100"
    token_budget_ratio: float = 1.4
    condition_in_question: str = "none"
    reorder_context: str = "original"
    dynamic_context_compression_ratio: float = 0.0
    condition_compare: bool = False
    add_instruction: bool = False
    rank_method: str = "llmlingua"
    concate_question: bool = True

    @property
    def texts(self) -> list[str]:
        """The context strings, in a list of their own."""
        return [self.context] if isinstance(self.context, str) else list(self.context)


@dataclass(frozen=True)
class StructuredCall(Call):
    """`structured_compress_prompt`: context strings with ``<llmlingua>`` tags."""

    strict_preserve_uncompressed: bool = True


@dataclass(frozen=True)
class PromptCall(Call):
    """`compress_prompt`, with what only LLMLingua-2 uses."""

    context_segs: Sequence[Sequence[str]] | None = None
    context_segs_rate: Sequence[Sequence[float]] | None = None
    context_segs_compress: Sequence[Sequence[bool]] | None = None
    target_context: int = -1
    context_level_rate: float = 1.0
    context_level_target_token: int = -1
    return_word_label: bool = False
    word_sep: str = "\t\t|\t\t"
    label_sep: str = " "
    token_to_word: str = "mean"
    force_tokens: Sequence[str] = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: Sequence[str] = (".", "\n")
    strict_preserve_uncompressed: bool = True


@dataclass(frozen=True)
class JsonCall:
    """`compress_json`: an object, and for each key what becomes of its value (a mapping, or a YAML file of one)."""

    json_data: Mapping[str, Any]
    json_config: str | Mapping[str, Mapping[str, Any]]
    instruction: str = ""
    question: str = ""
    rate: float = 0.5
    target_token: float = -1
    iterative_size: int = 200
    use_sentence_level_filter: bool = False
    use_keyvalue_level_filter: bool = False
    use_token_level_filter: bool = True
    keep_split: bool = False
    keep_first_sentence: int = 0
    keep_last_sentence: int = 0
    keep_sentence_number: int = 0
    high_priority_bonus: int = 100
    context_budget: str = "+100"
    token_budget_ratio: float = 1.4
    condition_in_question: str = "none"
    reorder_keyvalue: str = "original"
    condition_compare: bool = False
    rank_method: str = "llmlingua"

    def as_call(self) -> Call:
        """The same settings as those of a prompt; there are no context strings to drop or to put in order."""
        names = {field.name for field in fields(Call)} & {field.name for field in fields(self)}
        return Call(context=(), concate_question=False, **{name: getattr(self, name) for name in names})


def takes(call: Callable[P, C]) -> Callable[[Callable[[S, C], R]], Callable[Concatenate[S, P], R]]:
    """Let a method that handles a record take the record's fields as its arguments."""

    def decorate(method: Callable[[S, C], R]) -> Callable[Concatenate[S, P], R]:
        def taking(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, call(*args, **kwargs))

        update_wrapper(taking, method)
        own, *_ = inspect.signature(method).parameters.values()
        signature = inspect.signature(call)
        taking.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
        return taking

    return decorate


RANKERS = {
    "sentbert": "embedding:sentence-transformers/multi-qa-mpnet-base-dot-v1",
    "bge": "embedding:BAAI/bge-large-en-v1.5",
    "bge_reranker": "reranker:BAAI/bge-reranker-large",
}
_WITHOUT_EFFECT = {"force_context_number": None, "add_instruction": False, "chunk_end_tokens": [".", "\n"]}


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
    before = call.rank_method == "longllmlingua" and call.condition_in_question.startswith("before")
    return {
        "method": "longllmlingua",
        "rank_method": "longllmlingua_before" if before else RANKERS.get(call.rank_method, call.rank_method),
        "condition_compare": call.condition_compare,
        "dynamic_context_compression_ratio": call.dynamic_context_compression_ratio,
        "reorder_context": call.reorder_context,
    }


def sentence_filter(call: Call) -> dict[str, Any]:
    """The setting of the sentence filter, if the call asks for it."""
    if not call.use_sentence_level_filter:
        return {}
    kept = {"first": call.keep_first_sentence, "last": call.keep_last_sentence, "best": call.keep_sentence_number}
    return {"sentence_filter": {"budget": f"*{call.token_budget_ratio}", **kept}}


def segments(call: PromptCall) -> Iterator[list[TextPiece]]:
    """Context strings in segments, each with a rate and whether it is compressed at all. ConfigError if they differ."""
    texts = call.context_segs or ()
    rates: Sequence[Sequence[float | None]] = call.context_segs_rate or [[None] * len(one) for one in texts]
    switches = call.context_segs_compress or [[True] * len(one) for one in texts]
    shape, *others = ([len(one) for one in part] for part in (texts, rates, switches))
    if others != [shape, shape] or any(isinstance(one, str) for one in texts):
        wanted = "a list for each string, with as many entries each"
        raise ConfigError(f"context_segs, _rate and _compress must hold {wanted}")
    for parts, own, compress in zip(texts, rates, switches, strict=True):
        yield [TextPiece(text, rate if on else 1.0) for text, rate, on in zip(parts, own, compress, strict=True)]


def rules(call: JsonCall) -> dict[str, object]:
    """Rules for key paths from the configuration of `compress_json`."""
    config = call.json_config
    if isinstance(config, str):
        config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    if not isinstance(config, Mapping) or set(config) != set(call.json_data):
        raise ConfigError("json_config must be a mapping (or a YAML file of one) with exactly the keys of json_data")
    return {key_path(key): entry["rate"] if entry.get("compress", True) else "keep" for key, entry in config.items()}


def warn_of_what_has_no_effect(call: Call) -> None:
    given = {name: getattr(call, name, default) for name, default in _WITHOUT_EFFECT.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    _warn([name for name, value in plain.items() if value != _WITHOUT_EFFECT[name]])


def _warn(names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"without effect here, see docs/moving-over.md: {', '.join(names)}", UserWarning, stacklevel=5)
