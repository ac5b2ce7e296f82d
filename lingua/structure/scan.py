"""JSON text, cut into what stays as it is and the strings that may be compressed; nothing is written anew.

A pull parser without recursion (RFC 8259, and Python's NaN and Infinity), so that any depth is read and numbers,
escapes, white space and repeated keys stay byte for byte. Dropped members go with one comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lingua.errors import PromptError
from lingua.structure.paths import Rules

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
