"""JSON values and JSON text: strings shortened as a mapping from key paths to rates says, everything else untouched.

Text is read by `json`, with exact numbers; what changed is written in one line, compact or spaced as it was, and what
did not comes back as it came. Given Python values (dicts, lists, strings, numbers, booleans, None), a copy with the
same keys and types comes back. The prompt holds the skeleton too, verbatim: the model reads each string behind its key,
and a budget counts everything. Strings are compressed as what they mean, without escapes. Keys are never touched; what
a rule drops is gone from the result, with its key, and is not counted. Of a key that an object repeats the last value
counts.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structured.exact import MAX_VALUES, dumps, has_too_many, loads
from lingua.structured.pieces import Rules, TextPiece, kept_texts, merged, rate_of, to_prompt

DEFAULT_RULES: Mapping[str, object] = {"**": "compress"}
_PYTHON = re.compile(r"[ \t\n\r]*(?:'|None\b|True\b|False\b|nan\b|array\(|[A-Z]\w*\()")
"""A value as Python prints it, but JSON does not write it."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which no text holds."""
TOO_DEEP = "too_deep", "the value nests too deeply"
Replace = Callable[[str, float | None], str]
"""A string and its rate → what stands in its place."""


@dataclass(frozen=True, slots=True)
class Json:
    """The structure of JSON. A value is either JSON text (any string) or what `json.loads` gives for an object or list.

    Both functions raise PromptError: ``malformed_json``, ``wrong_type``, ``too_deep`` and, of text,
    ``too_many_values``.
    """

    rules: Rules

    @classmethod
    def of(cls, rules: Mapping[str, object] = DEFAULT_RULES) -> Json:
        """From paths (see `pieces`) to rates or ``keep``, ``compress``, ``drop``. Raises ValueError naming the rule."""
        return cls(Rules.of(rules))

    def decompose(self, value: Any) -> Prompt:
        """The skeleton and the strings of `value`, in order."""
        return to_prompt(self._pieces(value))

    def reassemble(self, value: Any, outcome: CompressedPrompt) -> Any:
        """`value` with what is kept of its strings: text for text, a copy for everything else."""
        pieces = self._pieces(value)
        kept = kept_texts(pieces, outcome)
        if isinstance(value, str) and not self.rules.drops and kept == [piece.text for piece in pieces]:
            return value
        left = (text for piece, text in zip(pieces, kept, strict=True) if not piece.verbatim)
        changed = self._replaced(value, lambda *_: next(left))
        return written(changed, value) if isinstance(value, str) else changed

    def _pieces(self, value: Any) -> list[TextPiece]:
        """The skeleton, written with a mark for each string that may be cut, is split at the marks."""
        texts: list[TextPiece] = []
        mark = secrets.token_hex(16)

        def take(text: str, rate: float | None) -> str:
            texts.append(TextPiece(text, rate))
            return mark

        first, *others = written(self._replaced(value, take), value).split(f'"{mark}"')
        behind = (TextPiece(text, 1.0) for text in others)
        return list(merged([TextPiece(first, 1.0), *chain.from_iterable(zip(texts, behind, strict=True))]))

    def _replaced(self, value: Any, replace: Replace) -> Any:
        """A copy of the value with `replace` of each string that may be cut, in order, and without what is dropped."""
        try:
            return _replaced(read_text(value, "the value is") if isinstance(value, str) else value, self.rules, replace)
        except RecursionError:
            raise PromptError(*TOO_DEEP) from None


def read_text(text: str, what: str) -> Any:
    """The value of a JSON text from outside; `what` begins the message of an error.

    Raises PromptError: ``malformed_json``, ``too_deep``, ``too_many_values``.
    """
    if len(text) > MAX_VALUES and has_too_many(text.encode("utf-8", "surrogatepass")):
        raise PromptError("too_many_values", f"{what} JSON text of more than {MAX_VALUES:,} values; split the row")
    try:
        return loads(text)
    except RecursionError:
        raise PromptError("too_deep", f"{what} JSON text that nests too deeply") from None
    except json.JSONDecodeError as error:
        place = f"{text[error.pos : error.pos + 30]!r} at character {error.pos} (line {error.lineno})"
        printed = _PYTHON.match(text, error.pos) is not None
        hint = "; this is what Python prints of a value, not JSON: write the column with json.dumps(value)" * printed
        raise PromptError("malformed_json", f"{what} not a JSON text: {place}: {error.msg}{hint}") from None


def _replaced(value: Any, rules: Rules, replace: Replace) -> Any:
    if isinstance(value, str):
        rate = rate_of(rules.action)
        return value if rate == 1 or not value or _SURROGATE.search(value) else replace(value, rate)
    if isinstance(value, Mapping):
        below = ((_key(key), item, rules.enter(_key(key))) for key, item in value.items())
        return {key: _replaced(item, inner, replace) for key, item, inner in below if inner.action != "drop"}
    if isinstance(value, (list, tuple)):
        entered = ((item, rules.enter(number)) for number, item in enumerate(value))
        return [_replaced(item, inner, replace) for item, inner in entered if inner.action != "drop"]
    return value


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise PromptError("wrong_type", f"the key {key!r} is a {type(key).__name__}; keys of JSON are strings")
    return key


def written(value: Any, like: object = None) -> str:
    """JSON text in one line; where `like` is text, as that: compact if no key is followed by a space, ASCII if it is.

    Lone surrogates are escaped.
    """
    text = like if isinstance(like, str) else "…"
    compact = '":' in text and '": ' not in text
    try:
        found = dumps(value, ensure_ascii=text.isascii(), separators=(",", ":") if compact else (", ", ": "))
    except (TypeError, ValueError) as error:
        raise PromptError("wrong_type", f"the value is not JSON: {error}") from None
    except RecursionError:
        raise PromptError(*TOO_DEEP) from None
    return _SURROGATE.sub(lambda one: f"\\u{ord(one[0]):04x}", found)
