"""Conversations: older messages are shortened, structure, ids and calls stay intact; `conversation` knows the forms.

Which roles are compressed, and at what rate, is a mapping; the newest message in which a user says something stays as
it is unless asked otherwise, and so do roles that are not named (by default system and developer). What a tool answered
has the rate of ``tool``, whoever's message holds it. Names, arguments of calls and reasoning are never changed, but
count like every text, so that `target_token` is a budget for the whole conversation. No text becomes empty, as some
providers refuse that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structured.conversation import FoundText, Path, read, role_of
from lingua.structured.json import TOO_DEEP, read_text, written
from lingua.structured.pieces import TextPiece, kept_texts, rate_of, to_prompt

SEPARATOR = "\n\n"
NEWEST = "newest_user"
"""Among the rates: the newest message in which a user says something."""


@dataclass(frozen=True, slots=True)
class Messages:
    """The structure of a conversation: a list of messages or an object that holds one, or JSON text of either.

    Both functions raise PromptError (``wrong_type``, ``unknown_form``, ``malformed_json``, ``too_deep``,
    ``too_many_values``) naming the message.
    """

    rates: Mapping[str, Any]  # `message_rates`: roles to a rate, ``keep`` or ``compress``

    def decompose(self, value: Any) -> Prompt:
        """The texts of the messages, in order."""
        texts = self._texts(_loaded(value))
        return to_prompt([piece for piece, _ in texts], SEPARATOR, keep_some=True)

    def reassemble(self, value: Any, outcome: CompressedPrompt) -> Any:
        """The conversation with what is kept of its texts: JSON text for JSON text, else a copy where it changed."""
        loaded = _loaded(value)
        texts = self._texts(loaded)
        kept = kept_texts([piece for piece, _ in texts], outcome)
        changes = [(path, new) for (piece, path), new in zip(texts, kept, strict=True) if path and new != piece.text]
        if not changes:
            return value
        changed = _changed(loaded, changes)
        return written(changed) if isinstance(value, str) else changed

    def _texts(self, value: Any) -> list[tuple[TextPiece, Path | None]]:
        """Every text that is not empty, with the rate that its role asks for, and where it stands if it may change."""
        try:
            found = [one for one in read(value) if one.text and one.fate != "opaque"]
        except RecursionError:
            raise PromptError(*TOO_DEEP) from None
        self._require_roles(found)
        said = [one.message for one in found if one.fate == "cut" and role_of(one.role) == "user" and one.text.strip()]
        newest = max(said, default=None)
        texts: list[tuple[TextPiece, Path | None]] = []
        for (_, fate), group in groupby(found, lambda one: (one.message, one.fate)):
            if fate == "keep":
                texts.append((TextPiece(" ".join(map(_checked, group)), 1.0), None))
            else:
                texts += [(TextPiece(_checked(one), self._rate(one, newest)), one.path) for one in group]
        return texts

    def _rate(self, one: FoundText, newest: int | None) -> float | None:
        if not one.text.strip():
            return 1.0
        if one.message == newest and role_of(one.role) == "user":
            return rate_of(self.rates.get(NEWEST, "keep"))
        return rate_of(self.rates.get(one.role, self.rates.get(role_of(one.role) or "", "keep")))

    def _require_roles(self, found: Sequence[FoundText]) -> None:
        """PromptError where no message has a role that is known: nothing would be compressed, and nobody would know."""
        roles = {one.role: None for one in found if one.message >= 0 and one.text.strip()}
        if roles and not any(role_of(role) or role in self.rates for role in roles):
            example = json.dumps({next(iter(roles)): "compress"}, ensure_ascii=False)
            fault = f"messages have the roles {', '.join(map(repr, roles))}, none of which is known"
            raise PromptError("unknown_form", f"{fault}; name them: message_rates {example}")


def _checked(one: FoundText) -> str:
    try:
        one.text.encode()
    except UnicodeEncodeError as error:
        fault = f"{one.where} holds a lone surrogate at {error.start}: not valid text"
        raise PromptError("invalid_unicode", fault) from None
    return one.text


def _loaded(value: Any) -> Any:
    """The conversation; JSON text is read."""
    if not isinstance(value, str):
        return value
    loaded = read_text(value, "messages are")
    if isinstance(loaded, str):
        fault = "messages are a JSON text that holds a string: were they written as JSON twice?"
        raise PromptError("wrong_type", fault)
    return loaded


def _changed(value: Any, changes: Sequence[tuple[Path, str]]) -> Any:
    """The value with other strings at these paths; only what leads to them is copied."""
    copies: dict[Path, Any] = {(): _shallow(value)}
    for path, text in changes:
        for depth in range(1, len(path)):
            way = path[:depth]
            if way not in copies:
                holder = copies[way[:-1]]
                copies[way] = holder[way[-1]] = _shallow(holder[way[-1]])
        copies[path[:-1]][path[-1]] = text
    return copies[()]


def _shallow(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
