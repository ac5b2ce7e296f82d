"""The calls of `llmlingua` 0.2.2 as records, and what their arguments mean in the settings of this engine."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import update_wrapper
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lingua.errors import ConfigError
from lingua.explain import explain, in_words
from lingua.shared import Many, Numbers, Strings
from lingua.structured.pieces import TextPiece, key_path

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


def _tokens(value: float) -> float:
    if value < 1 and value != -1:
        raise ValueError("must be at least 1, or -1 for no target")
    return value


Text = SkipValidation[str]
"""Of a prompt, which says itself what is wrong with its texts."""
Share = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[float, AfterValidator(_tokens)]
Condition = Literal["none", "before", "after", "none_condition", "before_condition", "after_condition"]
_CHECKED = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True, config=_CHECKED)
class Call:
    """What `compress_prompt` and `structured_compress_prompt` share."""

    context: Annotated[list[Text], Many]
    instruction: Text = ""
    question: Text = ""
    rate: Share = 0.5
    target_token: Tokens = -1
    iterative_size: int = 200
    force_context_ids: Numbers | None = None
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
    condition_in_question: Condition = "none"
    reorder_context: str = "original"
    dynamic_context_compression_ratio: float = 0.0
    condition_compare: bool = False
    add_instruction: bool = False
    rank_method: str = "llmlingua"
    concate_question: bool = True


@dataclass(frozen=True, config=_CHECKED)
class StructuredCall(Call):
    """`structured_compress_prompt`: context strings with ``<llmlingua>`` tags."""

    strict_preserve_uncompressed: bool = True


@dataclass(frozen=True, config=_CHECKED)
class PromptCall(Call):
    """`compress_prompt`, with what only LLMLingua-2 uses."""

    context_segs: list[list[Text]] | None = None
    context_segs_rate: list[list[Share]] | None = None
    context_segs_compress: list[list[bool]] | None = None
    target_context: int = -1
    context_level_rate: float = 1.0
    context_level_target_token: int = -1
    return_word_label: bool = False
    word_sep: str = "\t\t|\t\t"
    label_sep: str = " "
    token_to_word: str = "mean"
    force_tokens: Strings = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: Strings = (".", "\n")
    strict_preserve_uncompressed: bool = True


class KeyRule(BaseModel):
    """What `compress_json` is told of a key; without a rate it has the call's. The last two have no effect here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rate: Share | None = None
    compress: bool = True
    value_type: Any = None
    pair_remove: Any = None


@dataclass(frozen=True, config=_CHECKED)
class JsonCall:
    """`compress_json`: an object, and for each key what becomes of its value (a mapping, or a YAML file of one)."""

    json_data: dict[Any, Any]
    json_config: SkipValidation[str | Path | Mapping[str, Mapping[str, Any]]]
    instruction: Text = ""
    question: Text = ""
    rate: Share = 0.5
    target_token: Tokens = -1
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
    condition_in_question: Condition = "none"
    reorder_keyvalue: str = "original"
    condition_compare: bool = False
    rank_method: str = "llmlingua"

    def as_call(self) -> Call:
        """The same settings as those of a prompt; there are no context strings to drop or to put in order."""
        names = {field.name for field in fields(Call)} & {field.name for field in fields(self)}
        return Call(context=[], concate_question=False, **{name: getattr(self, name) for name in names})


def takes(call: Callable[P, C]) -> Callable[[Callable[[Any, C], R]], Callable[Concatenate[Any, P], R]]:
    """Let a method that handles a record take the record's fields as its arguments. ConfigError where one is wrong."""
    signature = inspect.signature(call)

    def decorate(method: Callable[[Any, C], R]) -> Callable[Concatenate[Any, P], R]:
        def taking(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments  # by name; TypeError where one is not known
            try:
                record = call(**given)  # type: ignore[call-arg]
            except ValidationError as error:
                raise ConfigError(explain(error)) from None
            return method(self, record)

        update_wrapper(taking, method)
        own, *_ = inspect.signature(method).parameters.values()
        taking.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
        return taking

    return decorate


RANKERS = {
    "sentbert": "embedding:sentence-transformers/multi-qa-mpnet-base-dot-v1",
    "bge": "embedding:BAAI/bge-large-en-v1.5",
    "bge_reranker": "reranker:BAAI/bge-reranker-large",
}
_WITHOUT_EFFECT = {"force_context_number": None, "add_instruction": False, "chunk_end_tokens": (".", "\n")}


def loading(model_name: object, device_map: object, model_config: Any) -> dict[str, Any]:
    """The arguments of `Compressor` that say how a model is loaded. ConfigError names one that cannot be."""
    if not isinstance(model_name, (str, Path)):
        raise ConfigError(f"model_name = {model_name!r}: must be the name or the path of a model")
    if not isinstance(model_config, Mapping):
        raise ConfigError(f"model_config = {model_config!r}: must be a mapping, such as {{'torch_dtype': 'float16'}}")
    device = str(device_map)  # PyTorch's object as well
    known = {"torch_dtype", "dtype", "trust_remote_code", "pad_to_left"}
    _warn([f"model_config[{name!r}]" for name in model_config if name not in known])
    dtype = model_config.get("torch_dtype", model_config.get("dtype", "auto"))
    return {
        "device": device if any(name in device for name in ("cpu", "mps", "cuda:")) else "auto",
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
    if others != [shape, shape]:
        raise ConfigError("context_segs, _rate and _compress must hold a list for each string, of as many entries each")
    for parts, own, compress in zip(texts, rates, switches, strict=True):
        yield [TextPiece(text, rate if on else 1.0) for text, rate, on in zip(parts, own, compress, strict=True)]


def rules(call: JsonCall) -> dict[str, object]:
    """Rules for key paths from the configuration of `compress_json`."""
    config = call.json_config
    if isinstance(config, (str, Path)):
        try:
            config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"json_config = {str(config)[:200]!r} cannot be read: {in_words(error)}") from None
    if not isinstance(config, Mapping) or (odd := [*(config.keys() ^ call.json_data.keys())]):
        so = f"; {odd[0]!r} is in one alone" if isinstance(config, Mapping) else ""
        raise ConfigError(f"json_config must be a mapping (or YAML file of one) with exactly the keys of json_data{so}")
    try:
        entries = TypeAdapter(dict[Text, KeyRule]).validate_python(config)
    except ValidationError as error:
        raise ConfigError(f"json_config: {explain(error, [*KeyRule.model_fields])}") from None
    actions = {key: "compress" if one.rate is None else one.rate for key, one in entries.items()}
    return {key_path(key): actions[key] if one.compress else "keep" for key, one in entries.items()}


def warn_of_what_has_no_effect(call: Call) -> None:
    _warn([name for name, unset in _WITHOUT_EFFECT.items() if getattr(call, name, unset) != unset])


def _warn(names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"without effect here, see docs/moving-over.md: {', '.join(names)}", UserWarning, stacklevel=5)
