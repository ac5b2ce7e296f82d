"""`CompressionConfig`: every setting of a compression, frozen and validated before any model loads. No I/O.

A setting that is given must be read by the chosen method (`lingua.methods` knows which are); defaults need not be.
Names follow the public `llmlingua` library where it has them; symbols in the comments are those of arXiv 2310.05736.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lingua.errors import ConfigError, UnreadError
from lingua.explain import explain
from lingua.structured.paths import Rules
from lingua.structured.pieces import require_actions

Unit = Literal["token", "word", "phrase", "sentence"]
Aggregate = Literal["sum", "mean", "max", "first"]
Method = Literal[
    "evidence", "llmlingua", "longllmlingua", "selective", "random", "truncate", "lead", "rarity", "llmlingua2"
]
Condition = Literal["none", "before", "after"]
Order = Literal["original", "sort", "two_stage"]
RankMethod = Literal["longllmlingua", "llmlingua", "bm25", "embedding", "reranker"]

Demonstrations = Literal["auto", "whole", "cut"]
WordScore = Literal["mean", "first", "max"]
Preset = Literal["paper", "security"]

ALGORITHM = 6
"""Part of every digest: raised when equal settings begin to give other results, so that old ones are not reused."""
DEFAULT_RATE = 0.5
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "method": "llmlingua",
        "unit": "token",
        "aggregate": "sum",
        "context_budget": "*2",
        "instruction_rate": 0.85,
        "question_rate": 0.9,
    },
    "security": {"method": "llmlingua2", "keep_threshold": 0.5},
}
"""Settings that go together: as in the LLMLingua paper; as in SecurityLingua (what an instruction really asks for)."""
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

    preset: Preset | None = Field(None, description="settings that go together; any given besides it prevails")
    method: Method = Field(
        "evidence", description="what to compress with: evidence (ours), a published method, or a baseline"
    )
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
    iterative_size: int | None = Field(
        None, ge=1, description="tokens per segment of the iterative compression (default: 100; longllmlingua: 200)"
    )

    compile: bool = Field(
        False,
        description="compile a causal model's decoder with torch: slower to start, fewer kernels, scores that differ "
        "by rounding",
    )

    unit: Unit = Field("word", description="what stands or falls together: token (the paper), word, phrase or sentence")
    aggregate: Aggregate = Field("sum", description="a unit's score from its tokens' surprisal")

    coherence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the budget that goes to whole sentences, before phrases and units; for methods that "
        "score all at once (default: 0.7 for evidence, else 0)",
    )
    question_aware: bool = Field(
        True, description="evidence: keep what the question of a prompt speaks of; off: what any question may need"
    )
    focus_model: str = Field(
        "all-minilm-l6-v2",
        min_length=1,
        description="evidence: the sentence-transformers model that says how near a sentence is to the question; "
        "'none': only the words they share do",
    )
    demonstrations: Demonstrations = Field(
        "auto",
        description="evidence: whether context strings are kept 'whole' or not at all, or 'cut'; auto: whole if all "
        "have a label like 'Q:' in common with the question",
    )

    rank_method: RankMethod = Field("longllmlingua", description="longllmlingua: what ranks the context strings")
    rank_model: str | None = Field(
        None,
        min_length=1,
        description="model of rank_method embedding (default: 'all-minilm-l6-v2', if installed) or reranker",
    )
    condition_in_question: Condition = Field(
        "after",
        description="longllmlingua: what ranks a string: the question after it, it after the question, or alone",
    )
    condition_compare: bool = Field(
        True, description="longllmlingua: keep what the question makes likelier, instead of what is surprising"
    )
    dynamic_context_compression_ratio: float = Field(
        0.3, ge=0, le=1, description="longllmlingua: how much more the best string keeps than the average one"
    )
    reorder_context: Order = Field(
        "sort", description="longllmlingua: context strings as they were, best first, or best first and last"
    )

    use_sentence_level_filter: bool = Field(False, description="drop whole sentences before the fine step")
    sentence_budget: str = Field("*1.5", description="what the sentence filter leaves: '*1.5' or '+100'")
    keep_first_sentence: int = Field(0, ge=0, description="leading sentences of each context string always kept")
    keep_last_sentence: int = Field(0, ge=0, description="trailing sentences of each context string always kept")
    keep_sentence_number: int = Field(0, ge=0, description="best sentences of each context string always kept")
    language: str = Field("en", min_length=2, description="language code for splitting sentences")

    token_to_word: WordScore = Field("mean", description="a unit's keep probability from its tokens' (llmlingua2)")
    window_tokens: int = Field(510, ge=1, description="tokens of text that an encoder reads at once, as far as it can")
    keep_threshold: float | None = Field(
        None, ge=0, le=1, description="instead of a budget: keep every unit of higher keep probability (llmlingua2)"
    )
    use_context_level_filter: bool = Field(
        False, description="drop whole context strings of low mean keep probability before the words (llmlingua2)"
    )

    force_tokens: tuple[str, ...] = Field((), description="strings kept wherever they occur")
    force_reserve_digit: bool = Field(False, description="keep every word that holds a digit")
    drop_consecutive: bool = Field(False, description="keep a forced string once where nothing kept parts its repeats")
    keep_split: bool = Field(False, description="keep line breaks")
    protect: tuple[str, ...] = Field((), description="regular expressions; what they match is kept")

    keep_code_blocks: bool = Field(False, description="keep fenced code blocks of Markdown, and texts that hold one")
    keep_structure: bool = Field(False, description="keep Markdown's headings and the marks of lists and quotations")
    json_rules: dict[str, Any] = Field(
        {"**": "compress"},
        description="JSON: key paths like 'items[].text' to a rate, 'keep', 'compress' or 'drop'; others are kept",
    )
    message_rates: dict[str, Any] = Field(
        {"user": "compress", "assistant": "compress", "tool": "compress", "function": "compress"},
        description="chat: roles to a rate, 'keep' or 'compress'; others are kept",
    )
    keep_newest_user: bool = Field(True, description="chat: keep the newest user message as it is")

    min_fidelity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="fidelity that every prompt keeps at least: one that would keep less is compressed less, whatever "
        "its budget, or not at all (status relaxed)",
    )

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(explain(error, type(self).model_fields)) from None

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

    @field_validator("json_rules")
    @classmethod
    def _rules_can_be_read(cls, value: dict[str, Any]) -> dict[str, Any]:
        Rules.of(value)
        return value

    @field_validator("message_rates")
    @classmethod
    def _rates_of_roles(cls, value: dict[str, Any]) -> dict[str, Any]:
        return dict(require_actions(value, ("keep", "compress")))

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
        settings = {**_preset(settings), **settings}
        given = [name for name in ("rate", "target_token", "keep_threshold") if settings.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
        return settings if given else {**settings, "rate": DEFAULT_RATE}

    @model_validator(mode="after")
    def _given_is_read(self) -> CompressionConfig:
        from lingua.methods import complaints  # the methods are made of this class

        given = [name for name in sorted(self.model_fields_set) if getattr(self, name) is not None]
        if found := dict(complaints(self.__dict__, given)):
            raise UnreadError(found)
        return self

    @model_validator(mode="after")
    def _threshold_fits(self) -> CompressionConfig:
        if self.open_ended and self.use_context_level_filter:
            raise ValueError("use_context_level_filter needs a budget: give a rate or target_token, no keep_threshold")
        return self

    @property
    def open_ended(self) -> bool:
        """Whether no length is asked for: a threshold decides what is kept."""
        return self.keep_threshold is not None

    @property
    def unit_score(self) -> Aggregate:
        """How the scores of its tokens make a unit's: surprisal adds up, probabilities and places do not."""
        if self.method == "llmlingua2":
            return self.token_to_word
        if self.method == "evidence":
            return "mean"
        return "first" if self.method in ("random", "truncate", "lead") else self.aggregate

    @model_validator(mode="after")
    def _reranker_has_a_model(self) -> CompressionConfig:
        if self.rank_method == "reranker" and self.rank_model is None:
            raise ValueError("rank_method 'reranker' needs rank_model: the name or directory of a cross-encoder")
        return self

    @property
    def focus(self) -> str | None:
        """The model that reads questions and sentences, if any does."""
        asked = self.method == "evidence" and self.question_aware and self.focus_model != "none"
        return self.focus_model if asked else None

    @property
    def coherent_share(self) -> float:
        """Share of the budget for whole sentences."""
        if self.coherence is None:
            return 0.7 if self.method == "evidence" else 0.0
        return self.coherence

    @property
    def segment_tokens(self) -> int:
        """Tokens per segment of the iterative compression, by the method's paper unless set."""
        return self.iterative_size or (200 if self.method == "longllmlingua" else 100)

    def target(self, origin_tokens: int) -> int:
        """Tokens that a prompt of `origin_tokens` may keep: rounded down, at least 1."""
        if self.target_token is not None:
            return self.ceiling(origin_tokens)
        return max(min(1, origin_tokens), int((self.rate or 1.0) * origin_tokens + 1e-9))

    def ceiling(self, tokens: int) -> int:
        """`tokens`, or fewer if `target_token` asks for it."""
        return tokens if self.target_token is None else min(self.target_token, tokens)

    def decisive(self) -> dict[str, Any]:
        """What results depend on, as JSON values: the method, and what it reads that is not at its default."""
        from lingua.methods import decisive

        return decisive(self.model_dump(mode="json"))

    def digest(self) -> str:
        """Hexadecimal digest of what results depend on, equal for equal settings on every machine."""
        canonical = json.dumps([ALGORITHM, self.decisive()], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset sets beside `settings`: what their method reads of it. ValueError when that is nothing."""
    from lingua.methods import DEFAULTS, METHODS, complaints

    preset = PRESETS.get(str(settings.get("preset")), {})
    method = str(settings.get("method") or preset.get("method"))
    if method not in METHODS:
        return preset
    unread = dict(complaints({**DEFAULTS, **preset, **settings, "method": method}, preset))
    read = {name: value for name, value in preset.items() if name not in unread}
    if preset and read.keys() == {"method"}:
        raise ValueError(
            f"preset {settings['preset']} is of method {preset['method']}, and method {method} reads nothing of it; "
            "give one of them"
        )
    return read
