"""The calls of `llmlingua` 0.2.2 as records: its arguments, by their names, in their order, with their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

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
