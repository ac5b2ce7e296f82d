"""`TextPiece`: a stretch of a structure's text, how much of it to keep; `Rules`: how much of each, by paths of JSON.

Every structure (tags, JSON, chat) is a pair of pure functions over pieces: what is cut apart here is compressed as the
context strings of one prompt, so that the model reads the structure and the budget is one, and is put together again
from the kept spans. Pieces that are to stay are taken from the original, whatever a compressor says of them.

A path, such as ``items[].name``, is steps joined by dots: a key, ``*`` (any key or element), ``[]`` (any element),
``[2]`` (one element) and ``**`` (any number of steps, also none). A key that holds ``. [ ] * "`` is written as a JSON
string: ``"a.b".c``. A rule holds for the value at its path and for all below it. Where several match, the more specific
one decides: compared from the last step back, a key or index before ``[]`` before ``*`` before ``**``. What no rule
matches is kept.

The place of a value is written as ``."items"[3]."name"``, and each path is a regular expression over such places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from lingua.prompt import CompressedPrompt, Prompt

Action = float | Literal["keep", "compress", "drop"]
"""What becomes of a text: a rate of its own, ``keep`` it, ``compress`` it at the configured rate, or ``drop`` it."""
WORDS = ("keep", "compress", "drop")
_STEP = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|\[(?P<index>\d*)\]|(?P<wild>\*\*?)|(?P<key>[^.\[\]*"]+)')
_ELEMENT, _ANY = r"\[\d+\]", r'(?:\[\d+\]|\."(?:[^"\\]|\\.)*")'
_WILD = {"**": (0, f"{_ANY}*"), "*": (1, _ANY), "[]": (2, _ELEMENT)}
_NAMED = 3
"""How specific a step is, and what it matches."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A stretch of text. rate: the share of its tokens to keep; 1: verbatim; None: the configured rate."""

    text: str
    rate: float | None

    @property
    def verbatim(self) -> bool:
        return self.rate == 1


def to_prompt(pieces: Sequence[TextPiece], separator: str = "", keep_some: bool = False) -> Prompt:
    """The pieces as the context strings of one prompt; `keep_some`: none of them becomes empty."""
    return Prompt(
        context=tuple(piece.text for piece in pieces),
        context_rates=tuple(piece.rate for piece in pieces),
        separator=separator,
        keep_some=keep_some,
    )


def kept_texts(pieces: Sequence[TextPiece], outcome: CompressedPrompt) -> list[str]:
    return [
        piece.text if piece.verbatim else "".join(piece.text[start:end] for start, end in spans)
        for piece, spans in zip(pieces, outcome.kept_spans, strict=True)
    ]


def merged(pieces: Iterable[TextPiece]) -> Iterator[TextPiece]:
    """The pieces with neighbours that stay verbatim made one, empty ones left out."""
    filled = (piece for piece in pieces if piece.text)
    for verbatim, group in groupby(filled, lambda piece: piece.verbatim):
        if verbatim:
            yield TextPiece("".join(piece.text for piece in group), 1.0)
        else:
            yield from group


def rate_of(action: Action) -> float | None:
    """An action as the rate of a piece; what is dropped keeps nothing."""
    if action == "compress":
        return None
    return {"keep": 1.0, "drop": 0.0}[action] if isinstance(action, str) else action


def require_actions(actions: Mapping[str, object], words: Sequence[str]) -> dict[str, Action]:
    """The same mapping, checked: rates between 0 and 1, or one of `words`. ValueError naming key and value."""
    for name, action in actions.items():
        number = isinstance(action, (int, float)) and not isinstance(action, bool) and 0 <= action <= 1
        if not (number or action in words):
            raise ValueError(f"{name!r}: {action!r} is neither a rate between 0 and 1 nor one of {', '.join(words)}")
    return dict(actions)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of each string of a JSON value."""

    rules: tuple[tuple[re.Pattern[str], Action], ...]  # places and actions, the more specific ones first
    path: str = ""  # the place of the value at hand

    @classmethod
    def of(cls, rules: Mapping[str, object]) -> Rules:
        """From paths to rates or ``keep``, ``compress``, ``drop``. Raises ValueError naming the rule."""
        made = list[tuple[tuple[tuple[int, ...], str], str, Action]]()
        for path, action in require_actions(rules, WORDS).items():
            steps = parse_path(path)
            for way in (steps, [*steps, _WILD["**"]]):
                rank = tuple(specific for specific, _ in reversed(way))
                made.append(((rank, path), "".join(pattern for _, pattern in way), action))
        return cls(tuple((re.compile(pattern), action) for _, pattern, action in sorted(made, reverse=True)))

    @property
    def action(self) -> Action:
        """What the most specific of the rules that match here asks for."""
        return next((action for pattern, action in self.rules if pattern.fullmatch(self.path)), "keep")

    @property
    def drops(self) -> bool:
        return any(action == "drop" for _, action in self.rules)

    def enter(self, step: str | int) -> Rules:
        """The rules as they stand at a key or element of this value."""
        return replace(self, path=self.path + (f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)}"))


def parse_path(path: str) -> list[tuple[int, str]]:
    """How specific each step of a path is, and what it matches. ValueError with the position of what cannot be read."""
    steps: list[tuple[int, str]] = []
    position = 0
    while position < len(path) or not steps:
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f'path {path!r}: no key, *, **, [] or [0] at character {position}; quote keys: "a.b"')
        steps.append(_step(match))
        position = match.end()
        if path.startswith(".", position):
            position += 1
            if position == len(path):
                raise ValueError(f"path {path!r} ends with a dot")
        elif position < len(path) and path[position] != "[":
            raise ValueError(f"path {path!r}: a dot is missing at character {position}")
    return steps


def key_path(key: str) -> str:
    """The path of one key, whatever characters it holds."""
    return json.dumps(key)


def _step(match: re.Match[str]) -> tuple[int, str]:
    if match["wild"] or match["index"] == "":
        return _WILD[match["wild"] or "[]"]
    if match["index"] is not None:
        return _NAMED, re.escape(f"[{int(match['index'])}]")
    key = str(json.loads(match["quoted"])) if match["quoted"] is not None else match["key"]
    return _NAMED, re.escape(f".{json.dumps(key)}")
