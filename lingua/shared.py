"""The settings that all methods read, and what the engine asks of the settings of one.

Names follow the public `llmlingua` library where it has them; symbols in the comments are those of arXiv 2310.05736.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, Self

import regex
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from lingua.engine.score import Needs
from lingua.errors import UnreadError
from lingua.prompt import Prompt
from lingua.structured.pieces import Rules, require_actions

Unit = Literal["token", "word", "phrase", "sentence"]
Aggregate = Literal["sum", "mean", "max", "first"]
MethodName = Literal[
    "evidence", "llmlingua", "longllmlingua", "selective", "random", "truncate", "lead", "rarity", "llmlingua2"
]
_BUDGET = re.compile(r"\s*([*+])\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """How much more than the final budget a coarse step may keep: ``*2`` (the paper's k) or ``+100`` tokens."""

    operator: Literal["*", "+"]
    amount: float

    @classmethod
    def parse(cls, text: str) -> ContextBudget:
        """ValueError, which says what to write, where `text` is no budget."""
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise ValueError("write '*2' (a factor) or '+100' (tokens)")
        budget = cls("*" if match[1] == "*" else "+", float(match[2]))
        if budget.operator == "*" and budget.amount < 1:
            raise ValueError("a factor below 1 would leave less than the final budget; write at least '*1'")
        return budget

    def apply(self, tokens: float) -> float:
        """The coarse budget of a final one, in tokens."""
        return tokens * self.amount if self.operator == "*" else tokens + self.amount


def _budget(value: str) -> str:
    ContextBudget.parse(value)
    return value


def _rules(value: dict[str, Any]) -> dict[str, Any]:
    Rules.of(value)
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if "" in value:
        raise ValueError("an empty string occurs everywhere; remove it")
    return value


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return value


BudgetText = Annotated[str, AfterValidator(_budget)]
"""A `ContextBudget` as it is written."""
Many = BeforeValidator(lambda value: (value,) if isinstance(value, (str, int)) else value)
"""Of a list: one value counts as a list of it."""
Strings = Annotated[tuple[str, ...], Many]
Numbers = Annotated[tuple[int, ...], Many]
_COHERENCE = (
    "share of the budget that goes to whole sentences, before whole clauses; 0: words, phrases or tokens by "
    "themselves, as unit says (default: 0.7 for evidence, else 0)"
)
Coherence = Annotated[float, Field(ge=0, le=1, description=_COHERENCE)]


class MethodSettings(BaseModel):
    """What one method reads beside what all read: the fields of its own class, and what they mean to the engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def needs(self) -> Needs:
        """What answers the method's scores."""
        return "nothing"

    @property
    def second_model(self) -> str | None:
        """The model that results depend on besides the compressor's."""
        return None

    @property
    def unit_score(self) -> Aggregate:
        """How the scores of its tokens make a unit's, as its `aggregate` says: surprisal adds up, places do not."""
        return getattr(self, "aggregate", "first")

    @property
    def coherent_share(self) -> float:
        """Share of the budget for whole sentences."""
        return 0.0

    def covers(self, question: str) -> bool:
        """Whether the names and numbers of a prompt with this question, or none, are spread over what is kept."""
        return False

    def keeps_whole(self, prompt: Prompt) -> bool:
        """Whether each context string of a prompt is kept as a whole or not at all."""
        return False

    @property
    def cuts_sentences(self) -> bool:
        """Whether whole sentences may be dropped, so that no unit crosses the end of one."""
        return False

    @property
    def budget_dependent(self) -> str | None:
        """What about the scores depends on the budget, so that no other budget can be cut to with them."""
        return "scores what is left of the text before, which depends on the budget"

    @property
    def threshold(self) -> float | None:
        """The score above which every unit is kept, where that decides instead of a budget."""
        return None

    def eased(self, share: float) -> Self:
        """The same with a threshold of only `share`, if there is one."""
        return self


class OnePassSettings(MethodSettings):
    """What methods read that score all tokens before they choose."""

    coherence: Coherence = 0.0

    @property
    def coherent_share(self) -> float:
        return self.coherence

    @property
    def budget_dependent(self) -> str | None:
        return None


class SharedSettings(BaseModel):
    """What all methods read, and `own`: the settings of the one that is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: MethodName = Field(
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
    keep_order: bool = Field(False, description="write a column from which lingua.cut makes a row's text at any budget")
    min_fidelity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="fidelity that every prompt keeps at least: one that would keep less is compressed less, whatever "
        "its budget, or not at all (status relaxed)",
    )

    unit: Unit = Field("word", description="the smallest span that is kept or dropped: the paper's is token")
    instruction_rate: float = Field(1.0, ge=0, le=1, description="share of the instruction to keep (paper: 0.85)")
    question_rate: float = Field(1.0, ge=0, le=1, description="share of the question to keep (paper: 0.9)")

    force_tokens: Annotated[Strings, AfterValidator(_not_empty)] = Field(
        (), description="strings kept wherever they occur; once where nothing kept parts their repeats"
    )
    force_reserve_digit: bool = Field(False, description="keep every word that holds a digit")
    protect: Annotated[Strings, AfterValidator(_patterns)] = Field(
        (), description="regular expressions; what they match is kept"
    )
    keep_markdown: Annotated[tuple[Literal["code", "structure"], ...], Many] = Field(
        (),
        description="of Markdown: 'code' keeps fenced code blocks, and texts that hold one; 'structure' keeps headings "
        "and the marks of lists and quotations",
    )

    json_rules: Annotated[dict[str, Any], AfterValidator(_rules)] = Field(
        {"**": "compress"},
        description="JSON: key paths like 'items[].text' to a rate, 'keep', 'compress' or 'drop'; others are kept",
    )
    message_rates: Annotated[
        dict[str, Any], AfterValidator(lambda roles: require_actions(roles, ("keep", "compress")))
    ] = Field(
        {"user": "compress", "assistant": "compress", "tool": "compress", "function": "compress"},
        description="chat: roles to a rate, 'keep' or 'compress'; others are kept, and so is the newest user message "
        "unless 'newest_user' says otherwise",
    )

    own: SerializeAsAny[MethodSettings]

    @model_validator(mode="after")
    def _order_serves_all_budgets(self) -> Self:
        reason = self.own.budget_dependent and f"method {self.method} {self.own.budget_dependent}"
        if self.unit in ("phrase", "sentence"):
            reason = f"unit {self.unit} is cut finer where a budget asks for it"
        if self.min_fidelity is not None:
            reason = "min_fidelity overrides the budget"
        if self.keep_order and reason:
            raise ValueError(f"keep_order, and several rates, need scores for all budgets, but {reason}; leave one out")
        return self

    @property
    def open_ended(self) -> bool:
        """Whether no length is asked for: a threshold decides what is kept."""
        return self.own.threshold is not None

    def target(self, origin_tokens: int) -> int:
        """Tokens that a prompt of `origin_tokens` may keep."""
        return target_of(self.rate or 1.0, origin_tokens) if self.target_token is None else self.ceiling(origin_tokens)

    def ceiling(self, tokens: int) -> int:
        """`tokens`, or fewer if `target_token` asks for it."""
        return tokens if self.target_token is None else min(self.target_token, tokens)


def target_of(rate: float, origin_tokens: int) -> int:
    """That share of the tokens, rounded down, at least 1."""
    return max(min(1, origin_tokens), int(rate * origin_tokens + 1e-9))


def refuse_without(name: str, condition: str) -> NoReturn:
    """UnreadError: a setting was given without another that it is read with."""
    raise UnreadError({name: f"is read only with {condition}: give that too, or leave {name} out"})
