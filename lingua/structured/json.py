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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structured.exact import MAX_VALUES, dumps, has_too_many, loads
from lingua.structured.paths import Rules
from lingua.structured.pieces import TextPiece, kept_texts, merged, rate_of, to_prompt

DEFAULT_RULES: Mapping[str, object] = {"**": "compress"}
_PYTHON = re.compile(r"[ \t\n\r]*(?:'|None\b|True\b|False\b|nan\b|array\(|[A-Z]\w*\()")
"""A value as Python prints it, but JSON does not write it."""


@dataclass(frozen=True, slots=True)
class Json:
    """The structure of JSON. A value is either JSON text (any string) or what `json.loads` gives for an object or list.

    Both functions raise PromptError: ``malformed_json``, ``wrong_type``, and of text ``too_deep``, ``too_many_values``.
    """

    rules: Rules

    @classmethod
    def of(cls, rules: Mapping[str, object] = DEFAULT_RULES) -> Json:
        """From paths (see `paths`) to rates or ``keep``, ``compress``, ``drop``. Raises ValueError naming the rule."""
        return cls(Rules.of(rules))

    def decompose(self, value: Any) -> Prompt:
        """The skeleton and the strings of `value`, in order."""
        return to_prompt(_pieces(self._fragments(value)))

    def reassemble(self, value: Any, outcome: CompressedPrompt) -> Any:
        """`value` with what is kept of its strings: text for text, a copy for everything else."""
        fragments = self._fragments(value)
        pieces = _pieces(fragments)
        kept = zip(pieces, kept_texts(pieces, outcome), strict=True)
        texts = [(piece.text, text) for piece, text in kept if not piece.verbatim]
        if not isinstance(value, str):
            return _copied(value, self.rules, (text for _, text in texts))
        if not self.rules.drops and all(before == after for before, after in texts):
            return value
        left = (text for _, text in texts)
        return "".join(one.raw if one.text is None else one.rewritten(next(left)) for one in fragments)

    def _fragments(self, value: Any) -> list[Fragment]:
        if isinstance(value, str):
            return list(_walk(read_text(value, "the value is"), self.rules, _Style.of(value)))
        return list(_walk(value, self.rules, _Style()))


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
        hint = _python_hint(text, error.pos)
        raise PromptError("malformed_json", f"{what} not a JSON text: {place}: {error.msg}{hint}") from None


def _python_hint(text: str, position: int) -> str:
    """What to do about a text that is no JSON at `position`, where it is what Python prints of its values."""
    if _PYTHON.match(text, position) is None:
        return ""
    return "; this is what Python prints of a value, not JSON: write the column with json.dumps(value)"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A stretch of JSON text. `text`: the string that it means, if that may be compressed."""

    raw: str
    text: str | None = None
    rate: float | None = 1.0

    def rewritten(self, text: str) -> str:
        """The JSON of what is left of it, escaped as it was."""
        return self.raw if text == self.text else json.dumps(text, ensure_ascii=self.raw.isascii())


@dataclass(frozen=True, slots=True)
class _Style:
    """How a skeleton is written."""

    comma: str = ", "
    colon: str = ": "
    ascii: bool = False

    @classmethod
    def of(cls, text: str) -> _Style:
        """As a text is: compact where no key is followed by a space, in ASCII where it is."""
        compact = '":' in text and '": ' not in text
        return cls(*((",", ":") if compact else (", ", ": ")), text.isascii())


def _pieces(fragments: Sequence[Fragment]) -> list[TextPiece]:
    return list(merged(TextPiece(one.raw if one.text is None else one.text, one.rate) for one in fragments))


def _string(raw: str, text: str, rules: Rules) -> Fragment:
    """A string value; one that is to stay, is empty or holds half a character (a lone surrogate) is skeleton."""
    rate = rate_of(rules.action)
    return Fragment(raw) if rate == 1 or not text or not _is_text(text) else Fragment(raw, text, rate)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, rules: Rules, style: _Style) -> Iterator[Fragment]:
    """The fragments of a Python value, as `json.dumps` would write it; without recursion."""
    waiting: list[tuple[Any, Rules] | Fragment] = [(value, rules)]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, Fragment):
            yield entry
            continue
        value, rules = entry
        if isinstance(value, str):
            yield _string(_dumps(value, style.ascii), value, rules)
        elif isinstance(value, (Mapping, list, tuple)):
            opening, closing = "{}" if isinstance(value, Mapping) else "[]"
            inner: list[tuple[Any, Rules] | Fragment] = [Fragment(opening)]
            for number, (key, item, below) in enumerate(_members(value, rules)):
                label = _dumps(key, style.ascii) + style.colon if isinstance(key, str) else ""
                inner += [Fragment((style.comma if number else "") + label), (item, below)]
            waiting += [Fragment(closing), *reversed(inner)]
        else:
            yield Fragment(_dumps(value, style.ascii))


def _members(value: Any, rules: Rules) -> Iterator[tuple[str | int, Any, Rules]]:
    """Key or index, value and rules of each member that is not dropped."""
    mapping = isinstance(value, Mapping)
    for key, item in value.items() if mapping else enumerate(value):
        if mapping and not isinstance(key, str):
            raise PromptError("wrong_type", f"the key {key!r} is a {type(key).__name__}; keys of JSON are strings")
        inner = rules.enter(key)
        if inner.action != "drop":
            yield key, item, inner


def _copied(value: Any, rules: Rules, texts: Iterator[str]) -> Any:
    """The value with its changeable strings taken from `texts`, in the order of `_walk`; without recursion."""
    whole: list[Any] = [None]
    waiting: list[tuple[Any, Any, Any, Rules]] = [(whole, 0, value, rules)]  # holder, key, what goes there
    while waiting:
        holder, key, value, rules = waiting.pop()
        if isinstance(value, str):
            holder[key] = value if _string("", value, rules).text is None else next(texts)
        elif isinstance(value, (Mapping, list, tuple)):
            members = list(_members(value, rules))
            mapping = isinstance(value, Mapping)
            copy: Any = dict.fromkeys(name for name, _, _ in members) if mapping else [None] * len(members)
            holder[key] = copy
            entries = enumerate(members)
            waiting += reversed(
                [(copy, name if mapping else place, item, below) for place, (name, item, below) in entries]
            )
        else:
            holder[key] = value
    return whole[0]


def _dumps(value: Any, ascii_only: bool) -> str:
    try:
        text = dumps(value, ensure_ascii=ascii_only)
    except (TypeError, ValueError) as error:
        raise PromptError("wrong_type", f"a value of type {type(value).__name__} is not JSON: {error}") from None
    return text if _is_text(text) else dumps(value, ensure_ascii=True)
