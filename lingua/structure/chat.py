"""Chat messages in the form of the OpenAI API: older talk made shorter, the conversation's structure and ids intact.

Text is the `content` of a message, as a string or as parts with a `text`. Which roles are compressed, and at what rate,
is a mapping; the newest user message stays as it is unless asked otherwise, and so do roles that are not named (by
default system and developer). Tool calls are never changed, but count like every text, so that `target_token` is a
budget for the whole conversation. Images, audio and files pass through uncounted.

A turn begins with a user message. With `older_turns` below 1 a turn keeps that share of the rate of the turn after it:
what the configured rate or target leaves is shared out among the messages in these proportions, none above itself.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structure.pieces import Piece, kept_texts, rate_of, to_prompt

SEPARATOR = "\n\n"
TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True, slots=True)
class _Text:
    """One text of a conversation. place: (message, part) if it may be replaced; age: turns that came after it."""

    text: str
    rate: float | None
    age: int
    place: tuple[int, int | None] | None


@dataclass(frozen=True, slots=True)
class Messages:
    """The structure of a conversation: a list of messages, or JSON text of one.

    config   `message_rates`, `keep_newest_user`, `older_turns`, and the rate or target that they are within
    count    tokens of a text in the tokenizer of the budget

    Both functions raise PromptError (``wrong_type``, ``malformed_json``) naming the message.
    """

    config: CompressionConfig
    count: Callable[[str], int]

    def decompose(self, value: Any) -> Prompt:
        """The texts of the messages, in order."""
        return to_prompt(self._pieces(_loaded(value)), SEPARATOR)

    def reassemble(self, value: Any, outcome: CompressedPrompt) -> Any:
        """The messages with what is kept of their texts: a copy, or JSON text for JSON text."""
        messages = copy.deepcopy(_loaded(value))
        texts = list(self._texts(messages))
        kept = kept_texts([Piece(one.text, one.rate) for one in texts], outcome)
        changed = [(one.place, new) for one, new in zip(texts, kept, strict=True) if one.place and new != one.text]
        for (message, part), text in changed:
            holder = messages[message] if part is None else messages[message]["content"][part]
            holder["content" if part is None else "text"] = text
        if isinstance(value, str):
            return json.dumps(messages, ensure_ascii=False) if changed else value
        return messages

    def _pieces(self, messages: Sequence[Any]) -> list[Piece]:
        texts = list(self._texts(messages))
        if self.config.older_turns < 1:
            texts = _discounted(texts, self.config, self.count)
        return [Piece(one.text, one.rate) for one in texts]

    def _texts(self, messages: Sequence[Any]) -> Iterator[_Text]:
        """Every text of the conversation that is not empty, with the rate that its role asks for."""
        users = [number for number, message in enumerate(messages) if message["role"] == "user"]
        newest = users[-1] if users and self.config.keep_newest_user else -1
        for number, message in enumerate(messages):
            rate = 1.0 if number == newest else rate_of(self.config.message_rates.get(message["role"], "keep"))
            age = sum(user > number for user in users)
            found = [_Text(text, rate, age, (number, part)) for part, text in _contents(message, number)]
            found += [_Text(text, 1.0, age, None) for text in _calls(message)]
            yield from (one for one in found if one.text)


def _loaded(value: Any) -> list[Any]:
    """The messages, checked as far as they are looked at."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise PromptError("malformed_json", f"messages are not a JSON text: {error}") from None
    if not isinstance(value, (list, tuple)):
        raise PromptError("wrong_type", f"messages must be a list, not {type(value).__name__}")
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise PromptError("wrong_type", f"messages[{number}] must be an object with a 'role'")
    return list(value)


def _contents(message: Mapping[str, Any], number: int) -> Iterator[tuple[int | None, str]]:
    """The texts of a message's content: part number (None: the content itself) and text."""
    content = message.get("content")
    if isinstance(content, str):
        yield None, content
    elif isinstance(content, (list, tuple)):
        for position, part in enumerate(content):
            where = f"messages[{number}].content[{position}]"
            if not isinstance(part, Mapping):
                raise PromptError("wrong_type", f"{where} must be an object, not {type(part).__name__}")
            if part.get("type") in TEXT_PARTS and part.get("text") is not None:
                yield position, _string(part["text"], f"{where}.text")
    elif content is not None:
        wanted = "a string, a list of parts or null"
        raise PromptError("wrong_type", f"messages[{number}].content must be {wanted}, not {type(content).__name__}")


def _calls(message: Mapping[str, Any]) -> Iterator[str]:
    """What a message calls, as texts: names and arguments of functions."""
    calls = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, Mapping):
            texts = (function.get("name"), function.get("arguments"))
            yield " ".join(text for text in texts if isinstance(text, str))


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise PromptError("wrong_type", f"{where} must be a string, not {type(value).__name__}")
    return value


def _discounted(texts: list[_Text], config: CompressionConfig, count: Callable[[str], int]) -> list[_Text]:
    """The same texts, with rates that fall with their age."""
    fixed = [replace(one, rate=_aged(one, config)) for one in texts]
    lengths = [count(one.text) for one in fixed]
    free = [index for index, one in enumerate(fixed) if one.rate is None]
    weights = [(config.older_turns ** fixed[index].age, lengths[index]) for index in free]
    if config.target_token is None:
        budget = (config.rate or 1.0) * sum(length for _, length in weights)
    else:
        own = sum((one.rate or 0.0) * length for one, length in zip(fixed, lengths, strict=True))
        budget = config.target_token - own - count(SEPARATOR) * max(0, len(fixed) - 1)
    scale = water_level(weights, budget)
    for index, (weight, _) in zip(free, weights, strict=True):
        fixed[index] = replace(fixed[index], rate=min(1.0, scale * weight))
    return fixed


def _aged(one: _Text, config: CompressionConfig) -> float | None:
    """A rate of its own falls with age as well; what is kept stays kept."""
    return one.rate if one.rate is None or one.rate == 1 else one.rate * config.older_turns**one.age


def water_level(weights: Sequence[tuple[float, int]], budget: float) -> float:
    """The scale s at which Σ min(1, s·weight)·length over the (weight, length) pairs is `budget`, or all is kept."""
    left = max(0.0, budget)
    waiting = sorted(weights, reverse=True)
    for position, (weight, length) in enumerate(waiting):
        mass = sum(one * size for one, size in waiting[position:])
        if mass > 0 and left / mass * weight < 1:
            return left / mass
        left -= length
    return 1 / min((weight for weight, _ in weights), default=1.0)
