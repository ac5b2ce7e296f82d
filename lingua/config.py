"""`CompressionConfig`: every setting of a compression, frozen and validated before any model loads. No I/O.

Names follow the public `llmlingua` library where it has them; symbols in the comments are those of arXiv 2310.05736.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lingua.errors import ConfigError

Unit = Literal["token", "word", "sentence"]
Aggregate = Literal["sum", "mean", "max", "first"]
Method = Literal["llmlingua"]

DEFAULT_RATE = 0.5
_BUDGET = re.compile(r"\s*([*+])\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """How much more than the final budget the coarse step may keep: ``*2`` (the paper's k) or ``+100`` tokens."""

    operator: Literal["*", "+"]
    amount: float

    @classmethod
    def parse(cls, text: str) -> ContextBudget:
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise ValueError("write '*2' (a factor) or '+100' (tokens)")
        budget = cls("*" if match[1] == "*" else "+", float(match[2]))
        if budget.operator == "*" and budget.amount < 1:
            raise ValueError("a factor below 1 would leave less than the final budget; write at least '*1'")
        return budget

    def apply(self, tokens: float) -> float:
        return tokens * self.amount if self.operator == "*" else tokens + self.amount


class CompressionConfig(BaseModel):
    """All settings of a compression. Unknown or invalid settings raise ConfigError, naming the setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = Field("llmlingua", description="published method to compress with")
    rate: float | None = Field(None, gt=0, le=1, description="share of the tokens to keep, e.g. 0.5 (default)")
    target_token: int | None = Field(None, ge=1, description="tokens to keep per prompt, instead of a rate")
    target_tokenizer: str = Field(
        "model",
        min_length=1,
        description="what budgets are counted in: 'model' (the compressor's own), 'cl100k_base', 'o200k_base', "
        "or a Hugging Face tokenizer (name or directory)",
    )

    instruction_rate: float = Field(1.0, ge=0, le=1, description="share of the instruction to keep (paper: 0.85)")
    question_rate: float = Field(1.0, ge=0, le=1, description="share of the question to keep (paper: 0.9)")
    context_budget: str = Field("*2", description="coarse budget: '*2' (a factor, the paper's k) or '+100' (tokens)")
    force_context_ids: tuple[int, ...] = Field((), description="indices of context strings that are always kept")
    iterative_size: int = Field(100, ge=1, description="tokens per segment of the iterative compression")

    unit: Unit = Field("word", description="what stands or falls together: token (the paper), word or sentence")
    aggregate: Aggregate = Field("sum", description="a unit's score from its tokens' surprisal")

    use_sentence_level_filter: bool = Field(False, description="drop whole sentences before the fine step")
    sentence_budget: str = Field("*1.5", description="what the sentence filter leaves: '*1.5' or '+100'")
    keep_first_sentence: int = Field(0, ge=0, description="leading sentences of each context string always kept")
    keep_last_sentence: int = Field(0, ge=0, description="trailing sentences of each context string always kept")
    keep_sentence_number: int = Field(0, ge=0, description="best sentences of each context string always kept")
    language: str = Field("en", min_length=2, description="language code for splitting sentences")

    force_tokens: tuple[str, ...] = Field((), description="strings kept wherever they occur")
    force_reserve_digit: bool = Field(False, description="keep every word that holds a digit")
    keep_split: bool = Field(False, description="keep line breaks")
    protect: tuple[str, ...] = Field((), description="regular expressions; what they match is kept")

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(explain(error)) from None

    @field_validator("force_tokens", "protect", "force_context_ids", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, (str, int)) else value

    @field_validator("context_budget", "sentence_budget")
    @classmethod
    def _budget_form(cls, value: str) -> str:
        ContextBudget.parse(value)
        return value

    @field_validator("force_tokens")
    @classmethod
    def _no_empty_string(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("an empty string occurs everywhere; remove it")
        return value

    @field_validator("protect")
    @classmethod
    def _compiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_target(cls, settings: dict[str, Any]) -> dict[str, Any]:
        if settings.get("rate") is None and settings.get("target_token") is None:
            return {**settings, "rate": DEFAULT_RATE}
        if settings.get("rate") is not None and settings.get("target_token") is not None:
            raise ValueError("rate and target_token exclude each other; give one of them")
        return settings

    def target(self, origin_tokens: int) -> int:
        """Tokens that a prompt of `origin_tokens` may keep: rounded down, at least 1."""
        if self.target_token is not None:
            return min(self.target_token, origin_tokens)
        return max(min(1, origin_tokens), int((self.rate or 1.0) * origin_tokens + 1e-9))

    def digest(self) -> str:
        """Hexadecimal digest of all settings, equal for equal settings on every machine."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def explain(error: ValidationError) -> str:
    """One line per fault of a pydantic error: the setting, its value and what is wanted."""
    return "; ".join(_fault(fault) for fault in error.errors(include_url=False))


def _fault(fault: Any) -> str:
    name = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown setting '{name}'"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{name} = {fault['input']!r}: {message}" if name else message
