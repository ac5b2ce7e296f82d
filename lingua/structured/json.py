"""JSON values and JSON text: strings shortened as a mapping from key paths to rates says, everything else untouched.

Given text, only the strings that change are written anew, so at rate 1.0 not a byte differs; given Python values
(dicts, lists, strings, numbers, booleans, None), a copy with the same keys and types comes back. The prompt holds the
skeleton too, verbatim: the model reads each string behind its key, and a budget counts everything. Strings are
compressed as what they mean, without escapes. Keys are never touched; what a rule drops is gone from the result, with
its key, and is not counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structured.exact import dumps
from lingua.structured.paths import Rules
from lingua.structured.pieces import TextPiece, kept_texts, merged, rate_of, to_prompt

DEFAULT_RULES: Mapping[str, object] = {"**": "compress"}


@dataclass(frozen=True, slots=True)
class Json:
    """The structure of JSON. A value is either JSON text (any string) or what `json.loads` gives for an object or list.

    Both functions raise PromptError: ``malformed_json``, ``wrong_type``. Any depth is read.
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
        texts = (text for piece, text in kept if not piece.verbatim)
        if isinstance(value, str):
            return "".join(_rewritten(fragment, texts) for fragment in fragments)
        return _copied(value, self.rules, texts)

    def _fragments(self, value: Any) -> list[Fragment]:
        return list(_cut(value, self.rules) if isinstance(value, str) else _walk(value, self.rules))


def _pieces(fragments: Sequence[Fragment]) -> list[TextPiece]:
    return list(merged(TextPiece(one.raw if one.text is None else one.text, one.rate) for one in fragments))


def _rewritten(fragment: Fragment, texts: Iterator[str]) -> str:
    """A fragment's JSON, with the next of `texts` if it is a string that may change."""
    if fragment.text is None:
        return fragment.raw
    text = next(texts)
    escaped = fragment.raw.isascii() and not text.isascii()
    return fragment.raw if text == fragment.text else json.dumps(text, ensure_ascii=escaped)


def _cut(text: str, rules: Rules) -> Iterator[Fragment]:
    """The fragments of a JSON text."""
    scanner = Scanner(text, rules)
    scanner.run()
    position = 0
    for start, end, at in sorted([*((*place, None) for place in scanner.dropped), *scanner.strings], key=_place):
        if end <= position:
            continue
        yield Fragment(text[position:start])
        if at is not None:
            yield _string(text[start:end], json.loads(text[start:end]), at)
        position = end
    yield Fragment(text[position:])


def _place(entry: tuple[int, int, Rules | None]) -> tuple[int, int]:
    """By beginning, the longer one first: what lies within a dropped range comes after it."""
    return entry[0], -entry[1]


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


def _walk(value: Any, rules: Rules) -> Iterator[Fragment]:
    """The fragments of a Python value, as `json.dumps` would write it; without recursion."""
    waiting: list[tuple[Any, Rules] | Fragment] = [(value, rules)]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, Fragment):
            yield entry
            continue
        value, rules = entry
        if isinstance(value, str):
            yield _string(_dumps(value), value, rules)
        elif isinstance(value, (Mapping, list, tuple)):
            opening, closing = "{}" if isinstance(value, Mapping) else "[]"
            inner: list[tuple[Any, Rules] | Fragment] = [Fragment(opening)]
            for number, (key, item, below) in enumerate(_members(value, rules)):
                label = f"{_dumps(key)}: " if isinstance(key, str) else ""
                inner += [Fragment((", " if number else "") + label), (item, below)]
            waiting += [Fragment(closing), *reversed(inner)]
        else:
            yield Fragment(_dumps(value))


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


def _dumps(value: Any) -> str:
    try:
        text = dumps(value)
    except (TypeError, ValueError) as error:
        raise PromptError("wrong_type", f"a value of type {type(value).__name__} is not JSON: {error}") from None
    return text if _is_text(text) else dumps(value, ensure_ascii=True)


_TOKEN = re.compile(
    r'(?P<string>"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")|(?P<mark>[{}\[\],:])'
    r"|(?P<plain>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])|(?:true|false|null|NaN|-?Infinity)\b)"
)
_SPACE = re.compile(r"[ \t\n\r]*")
_PYTHON = re.compile(r"[ \t\n\r]*(?:'|None\b|True\b|False\b|nan\b|array\(|[A-Z]\w*\()")
"""A value as Python prints it, but JSON does not write it."""
_PAIRS = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Fragment:
    """A stretch of JSON text. `text`: the string that it means, if that may be compressed under `rules`."""

    raw: str
    text: str | None = None
    rate: float | None = 1.0


@dataclass(slots=True, eq=False)
class _Open:
    """A container that is being read.

    kept_end   where its last member that stays ended, or its bracket
    started    where its current member begins
    """

    closing: str
    rules: Rules
    kept_end: int
    started: int = 0
    index: int = 0
    dropped_last: bool = False


@dataclass(slots=True, eq=False)
class Scanner:
    """Reads one JSON text; afterwards `strings` are its (start, end, rules), `dropped` the ranges to leave out."""

    text: str
    root: Rules
    strings: list[tuple[int, int, Rules]] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)
    _open: list[_Open] = field(default_factory=list)
    _rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        self._rules = self.root

    def run(self) -> None:
        """Read the text. Raises PromptError (``malformed_json``) with the position of the first fault."""
        expected = "value"
        position = 0
        for kind, start, end in self._tokens():
            expected = self._accept(expected, kind, start, end)
            position = end
        if expected != "end":
            raise malformed_json(self.text, position, f"the text ends where {_WANTED[expected]} should stand")

    def _tokens(self) -> Iterator[tuple[str, int, int]]:
        position = _skip(self.text, 0)
        while position < len(self.text):
            token = _TOKEN.match(self.text, position)
            if token is None:
                raise malformed_json(self.text, position, "this is not JSON")
            kind = token.group() if token.lastgroup == "mark" else str(token.lastgroup)
            yield kind, position, token.end()
            position = _skip(self.text, token.end())

    def _accept(self, expected: str, kind: str, start: int, end: int) -> str:
        """Take a token; what may come after it."""
        if expected in ("value", "first value") and kind in ("string", "plain", "{", "["):
            return self._value(kind, start, end)
        if expected in ("key", "first key") and kind == "string":
            self._enter(json.loads(self.text[start:end]), start)
            return "colon"
        if expected == "colon" and kind == ":":
            return "value"
        if expected == "more" and kind == ",":
            return self._next(end)
        if self._open and kind == self._open[-1].closing and expected in ("first key", "first value", "more"):
            return self._close(end)
        raise malformed_json(self.text, start, f"here should stand {_WANTED[expected]}")

    def _value(self, kind: str, start: int, end: int) -> str:
        if self._open and self._open[-1].closing == "]":
            self._enter(self._open[-1].index, start)
        if kind in _PAIRS:
            self._open.append(_Open(_PAIRS[kind], self._rules, end))
            return "first key" if kind == "{" else "first value"
        if kind == "string":
            self.strings.append((start, end, self._rules))
        return self._done(end)

    def _enter(self, step: str | int, start: int) -> None:
        container = self._open[-1]
        container.started = start
        self._rules = container.rules.enter(step)

    def _done(self, end: int) -> str:
        """A value has ended; it was dropped if its rules say so."""
        if not self._open:
            return "end"
        container = self._open[-1]
        container.dropped_last = self._rules.action == "drop"
        if container.dropped_last:
            self.dropped.append((container.started, end))
        else:
            container.kept_end = end
        return "more"

    def _next(self, end: int) -> str:
        container = self._open[-1]
        container.index += 1
        if container.dropped_last:
            self.dropped.append((container.started, _skip(self.text, end)))
        return "key" if container.closing == "}" else "value"

    def _close(self, end: int) -> str:
        container = self._open.pop()
        if container.dropped_last:
            self.dropped.append((container.kept_end, self.dropped[-1][1]))
        self._rules = container.rules
        return self._done(end)


_WANTED = {
    "value": "a value",
    "first value": "a value or ]",
    "key": "a key",
    "first key": "a key or }",
    "colon": "a colon",
    "more": "a comma or the end of the object or array",
    "end": "nothing more",
}


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match is not None else position


def python_hint(text: str, position: int) -> str:
    """What to do about a text that is no JSON at `position`, where it is what Python prints of its values."""
    if _PYTHON.match(text, position) is None:
        return ""
    return "; this is what Python prints of a value, not JSON: write the column with json.dumps(value)"


def malformed_json(text: str, position: int, fault: str) -> PromptError:
    """The error for a JSON text that cannot be read at `position`."""
    line = text.count("\n", 0, position) + 1
    shown = text[position : position + 30]
    hint = python_hint(text, position)
    return PromptError("malformed_json", f"{shown!r} at character {position} (line {line}): {fault}{hint}")
