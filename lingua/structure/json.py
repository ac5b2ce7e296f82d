"""JSON values and JSON text: strings shortened as a mapping from key paths to rates says, everything else untouched.

Given text, only the strings that change are written anew, so at rate 1.0 not a byte differs; given Python values
(dicts, lists, strings, numbers, booleans, None), a copy with the same keys and types comes back. The prompt holds the
skeleton too, verbatim: the model reads each string behind its key, and a budget counts everything. Strings are
compressed as what they mean, without escapes. Keys are never touched; what a rule drops is gone from the result, with
its key, and is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structure.exact import dumps
from lingua.structure.paths import Rules
from lingua.structure.pieces import Piece, kept_texts, merged, rate_of, to_prompt
from lingua.structure.scan import Fragment, Scanner

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


def _pieces(fragments: Sequence[Fragment]) -> list[Piece]:
    return list(merged(Piece(one.raw if one.text is None else one.text, one.rate) for one in fragments))


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
