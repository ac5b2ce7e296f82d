"""Documents that were scored or compressed before, cut and put together at question time. No model is asked.

A method that scores all units before it drops any gives them the same scores at every budget. `Order` holds where the
units of each string begin, their scores as selections read them, and which must be kept; the text itself stands beside
it. `cut` runs the job's own selection on these, with the exact count of the tokenizer that budgets are counted in: what
it gives is what the job writes at that budget. `assemble_rows` does so for many rows within one prompt, as much of each
as its weight earns; `assemble` takes of texts as many of the best as fit. The budget is never exceeded.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from lingua.budget.draft import Draft, Drafter, PromptPart
from lingua.budget.selection import keep_best, settle
from lingua.config import CompressionConfig, without_defaults
from lingua.errors import ConfigError, PromptError
from lingua.models.source import resolve
from lingua.prompt import CompressedPrompt, Prompt, join_parts
from lingua.shared import SharedSettings
from lingua.text.tokens import SourceTokenizer, TargetTokenizer, named_target

COLUMN = "keep_order"
ROLES = ("text", "instruction", "context")
DEFAULT_TOKENIZER = "cl100k_base"
SLACK = 8
"""Tokens by which a text may be shorter than its parts: worth an exact count of the whole."""
_OF_BUDGETS = ("rate", "target_token", "keep_threshold", "keep_order")
_UNIT = np.dtype([("characters", "<u4"), ("score", "<u2"), ("must", "u1")])
Units = npt.NDArray[Any]
"""The units of a string in order [u], as `_UNIT`: characters, the upper half of the score as float32, must be kept."""


@dataclass(frozen=True, slots=True)
class Order:
    """What cutting a prompt needs beside its text.

    settings    the settings that decide, but for the budget
    model       whose tokenizer counts, where `target_tokenizer` names no other
    columns     the columns of a row that the prompt was made of, by their roles; empty: they are called like these
    strings     the units of the instruction and of each context string
    """

    settings: Mapping[str, Any]
    model: str
    columns: Mapping[str, str]
    strings: tuple[Units, ...]

    @classmethod
    def of(cls, draft: Draft) -> Order:
        """The order of a prompt whose tokens have their scores."""
        strings = tuple(_units(part, draft) for part in (draft.instruction, *draft.context))
        model = draft.drafter.model if draft.config.target_tokenizer == "model" else ""
        return cls(_settings(draft.config), model, {}, strings)

    @classmethod
    def read(cls, text: str) -> Order:
        """The inverse of `text`. PromptError (``no_order``) when it is none."""
        try:
            stored = json.loads(text)
            planes = np.frombuffer(zlib.decompress(base64.b64decode(stored["units"], validate=True)), np.uint8)
            units = np.ascontiguousarray(planes.reshape(_UNIT.itemsize, -1).T).view(_UNIT)[:, 0]
            if sum(stored["counts"]) != len(units):
                raise ValueError("it holds more units or fewer than it counts")
            strings = np.split(units, np.cumsum(stored["counts"])[:-1])
            columns = {role: str(name) for role, name in stored.get("columns", {}).items()}
            return cls(dict(stored["settings"]), str(stored.get("model", "")), columns, tuple(strings))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error) as error:
            raise PromptError("no_order", f"{COLUMN} is not what a job wrote ({error}): {str(text)[:40]}…") from None

    @property
    def text(self) -> str:
        """JSON in one line. The units lie byte by byte of all, deflated, in base64."""
        units = np.concatenate(self.strings)
        planes = np.ascontiguousarray(units.view(np.uint8).reshape(-1, _UNIT.itemsize).T)
        packed = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
        about = {"settings": dict(self.settings), "model": self.model, "columns": dict(self.columns)}
        counts = list(map(len, self.strings))
        return json.dumps({**{name: one for name, one in about.items() if one}, "counts": counts, "units": packed})

    def prompt(self, row: Mapping[str, Any]) -> Prompt:
        """The prompt that was scored, from the row that its text stands in. PromptError when it does not."""
        columns = self.columns or {role: role for role in ROLES if role in row}
        found = {role: row.get(name) or "" for role, name in columns.items()}
        context = found["text"] if "text" in found else found.get("context", ())
        strings = [one or "" for one in context] if isinstance(context, (list, tuple)) else context
        prompt = Prompt("" if "text" in found else found.get("instruction", ""), strings)
        lengths = [len(one) for one in (prompt.instruction, *prompt.context)]
        if lengths != [int(units["characters"].sum()) for units in self.strings]:
            named = ", ".join(map(repr, self.columns.values())) or "'text', or 'instruction' and 'context',"
            raise PromptError("other_text", f"{COLUMN} is not of the text in this row: {named} must stand beside it")
        return prompt

    def require(self, config: SharedSettings | None, columns: Mapping[str, str]) -> None:
        """PromptError (``no_order``) unless it is of these settings, as far as they are known, and these columns."""
        if self.columns != columns or (config is not None and self.settings != _settings(config)):
            raise PromptError("no_order", f"{COLUMN} is of other settings or columns")

    def drafter(self, counter: TargetTokenizer | None = None) -> Drafter:
        """What drafts are made with."""
        target = counter or _counter(str(self.settings.get("target_tokenizer", "model")), self.model)
        config = _config(json.dumps(dict(self.settings), sort_keys=True))
        return Drafter(cast("SourceTokenizer", target), target, config)  # nothing is read for a model: units are known

    def parts(self, prompt: Prompt, drafter: Drafter, weight: float = 1.0) -> list[PromptPart]:
        """Instruction and context strings in their units, whose scores count `weight` times."""
        texts = (prompt.instruction, *prompt.context)
        return [_part(text, units, drafter, weight) for text, units in zip(texts, self.strings, strict=True)]

    def cut(self, prompt: Prompt, target_tokens: int, counter: TargetTokenizer | None = None) -> CompressedPrompt:
        """The prompt with at most so many tokens, as the job writes it."""
        drafter = self.drafter(counter)
        first, *context = self.parts(prompt, drafter)
        first.rate = drafter.config.instruction_rate
        origin = drafter.target.count(prompt.text)
        return select(Draft(prompt, drafter, first, context, whole("", drafter), origin, min(origin, target_tokens)))


def cut(row: Mapping[str, Any], target_tokens: int, tokenizer: TargetTokenizer | None = None) -> str:
    """The compressed text of a row at any budget: what the job would have written there.

    row         of an output written with ``keep_order``: that column, and those with its original text
    tokenizer   counts instead of the named one, where that is not on this machine: it must count the same

    Raises PromptError for a row without an order, or with another text than was scored.
    """
    if target_tokens < 1:
        raise ValueError(f"target_tokens = {target_tokens}: a text keeps at least 1 token")
    order = order_of(row)
    return order.cut(order.prompt(row), target_tokens, tokenizer).text


def order_of(row: Mapping[str, Any]) -> Order:
    """The order that stands in a row, whatever prefix its column has."""
    found = [value for name, value in row.items() if name.endswith(COLUMN) and isinstance(value, str)]
    if len(found) != 1:
        raise PromptError("no_order", f"the row has no column {COLUMN}: compress with --keep-order")
    return Order.read(found[0])


def named(order: str, columns: Mapping[str, str]) -> str:
    """The text of an order with the names of the columns that it is of, by their roles."""
    return json.dumps({**json.loads(order), "columns": dict(columns)})


def select(draft: Draft) -> CompressedPrompt:
    """The result of a draft whose scores are there."""
    if draft.fits:
        return draft.finish("kept" if draft.untouchable else "passthrough")
    keep_best(draft)
    return settle(draft)


def whole(text: str, drafter: Drafter) -> PromptPart:
    """A part that stays as it is."""
    edges = np.unique([0, len(text)])
    part = drafter.scored(text, edges, np.ones(len(edges) - 1, bool), np.zeros(len(edges) - 1, np.float32))
    part.rate = 1
    return part


@lru_cache(maxsize=8)
def _counter(name: str, model: str = "") -> TargetTokenizer:
    if name != "model":
        return named_target(name)
    if not model:
        raise ConfigError("tokenizer = 'model' names no tokenizer here; give that of the model that reads the prompt")
    from lingua.models.load import Loader  # torch is loaded where it is needed

    return SourceTokenizer(Loader(resolve(model)).tokenizer())


@lru_cache(maxsize=64)
def _config(settings: str) -> CompressionConfig:
    return CompressionConfig(**json.loads(settings))


def _settings(config: SharedSettings) -> dict[str, Any]:
    """The settings that decide, but for the budget."""
    flat = {**config.model_dump(mode="json", exclude={"own"}), **config.own.model_dump(mode="json")}
    return {name: value for name, value in without_defaults(flat).items() if name not in _OF_BUDGETS}


def _units(part: PromptPart, draft: Draft) -> Units:
    units = np.zeros(len(part.must), _UNIT)
    units["characters"], units["must"] = np.diff(part.bounds), part.must
    units["score"] = part.scores(draft.config).view(np.uint32) >> 16
    return units


def _part(text: str, units: Units, drafter: Drafter, weight: float) -> PromptPart:
    bounds = np.concatenate([[0], np.cumsum(units["characters"], dtype=np.int64)])
    scores = (units["score"].astype(np.uint32) << 16).view(np.float32) * np.float32(weight)
    return drafter.scored(text, bounds, units["must"].astype(bool), scores)


class Counter(Protocol):
    """Whatever counts the tokens of a text."""

    def count(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the documents, and between all parts."""

    instruction: str = ""
    question: str = ""
    separator: str = "\n\n"

    def around(self, documents: Sequence[str]) -> str:
        """The whole prompt."""
        return join_parts((self.instruction, *documents, self.question), self.separator)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A prompt of `tokens` tokens that holds (parts of) the documents with the indices `used`, in their given order."""

    text: str
    used: tuple[int, ...]
    tokens: int


def assemble(
    documents: Sequence[str], budget: int, frame: Frame | None = None, tokenizer: str | Counter = DEFAULT_TOKENIZER
) -> Assembled:
    """The prompt with the first documents that fit: give the best first. One that does not fit is passed over.

    tokenizer   what the budget is counted in: a name as in `CompressionConfig.target_tokenizer`, or a counter

    Raises PromptError (``over_budget``) when instruction and question alone exceed the budget.
    """
    frame, counter = frame or Frame(), _counter(tokenizer) if isinstance(tokenizer, str) else tokenizer
    used: list[int] = []
    text, tokens = frame.around([]), counter.count(frame.around([]))
    _require_room(tokens, budget)
    for index, cost in enumerate(counter.count(frame.separator + document) for document in documents):
        if documents[index] and tokens + cost <= budget + SLACK:
            attempt = frame.around([documents[position] for position in (*used, index)])
            if (counted := counter.count(attempt)) <= budget:
                text, tokens = attempt, counted
                used.append(index)
    return Assembled(text, tuple(used), tokens)


def assemble_rows(
    rows: Sequence[Mapping[str, Any]],
    budget: int,
    frame: Frame | None = None,
    weights: Sequence[float] | None = None,
    tokenizer: TargetTokenizer | None = None,
) -> Assembled:
    """The prompt with the best of all rows together: what a job makes of one prompt with all of their strings.

    rows        of outputs with ``keep_order`` under the same settings: that column and the original text; the
                instruction that a row may have is left out
    weights     what the scores of each row are multiplied with, at least 0 (default: 1)
    tokenizer   counts instead of the one that the rows name, where that is not on this machine

    Raises PromptError (``over_budget``) when what must be kept exceeds the budget, ConfigError when rows or weights do
    not go together.
    """
    frame, weights = frame or Frame(), [1.0] * len(rows) if weights is None else weights
    if not rows or len(weights) != len(rows) or not all(0 <= weight < math.inf for weight in weights):
        raise ConfigError(f"weights: give at least one row, and a number of at least 0 for each of the {len(rows)}")
    orders = [order_of(row) for row in rows]
    known = {json.dumps([dict(order.settings), order.model], sort_keys=True) for order in orders}
    if len(known) > 1:
        raise ConfigError(f"rows were compressed under different settings: {' and '.join(sorted(known)[:2])}")
    drafter, parts, owners = orders[0].drafter(tokenizer), list[PromptPart](), list[int]()
    _require_room(drafter.target.count(frame.around([])), budget)
    for index, (order, row, weight) in enumerate(zip(orders, rows, weights, strict=True)):
        _, *own = order.parts(order.prompt(row), drafter, weight)
        parts += own
        owners += [index] * len(own)
    prompt = Prompt(frame.instruction, [part.text for part in parts], frame.question, frame.separator)
    before, behind = (whole(text, drafter) for text in (frame.instruction, frame.question))
    origin = drafter.target.count(prompt.text)
    result = select(Draft(prompt, drafter, before, parts, behind, origin, min(origin, budget)))
    if result.compressed_tokens > budget:
        raise PromptError("over_budget", f"{result.compressed_tokens} tokens must be kept, the budget is {budget}")
    used = dict.fromkeys(owners[index] for index in result.kept_context if parts[index].text)
    return Assembled(result.text, tuple(used), result.compressed_tokens)


def _require_room(tokens: int, budget: int) -> None:
    if tokens > budget:
        raise PromptError("over_budget", f"instruction and question are {tokens} tokens, the budget is {budget}")
