"""`TextPiece`: a stretch of a structure's text, how much of it to keep. Pieces make a `Prompt`, its outcome their rest.

Every structure (tags, JSON, chat) is a pair of pure functions over pieces: what is cut apart here is compressed as the
context strings of one prompt, so that the model reads the structure and the budget is one, and is put together again
from the kept spans. Pieces that are to stay are taken from the original, whatever a compressor says of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from lingua.prompt import CompressedPrompt, Prompt

Action = float | Literal["keep", "compress", "drop"]
"""What becomes of a text: a rate of its own, ``keep`` it, ``compress`` it at the configured rate, or ``drop`` it."""


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
