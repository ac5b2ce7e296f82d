"""`Sample`: a row of the corpus before and after, for the report; of long texts the beginning, so its size is bounded.

A `RowNote` is what is noted of a row without its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.validated import STORED
from lingua.prompt import CompressedPrompt, Prompt, Span

CHARACTERS = 1600
"""Characters of a sample's original and of its result that are kept."""
PIECES = 12
DROPPED_CHARACTERS = 80
"""Of a string that was dropped, as there is nothing to see in it."""


@dataclass(frozen=True, slots=True)
class RowNote:
    """One row in figures. `seconds`: from the end of the row before it to its own end, so what it held up.

    predicted   how well the result predicts the original; None: it is not in the fidelity sample
    """

    __pydantic_config__ = STORED

    row: int
    id: str | None
    status: str
    origin_tokens: int
    compressed_tokens: int
    target_tokens: int
    seconds: float
    fidelity: float = 1.0
    predicted: float | None = None

    @property
    def rate(self) -> float | None:
        """Kept share of the tokens; None of a row without any."""
        return self.compressed_tokens / self.origin_tokens if self.origin_tokens else None


@dataclass(frozen=True, slots=True)
class Piece:
    """One string of a prompt: its beginning, the kept characters in it (None: not known), how many more there were."""

    __pydantic_config__ = STORED

    name: str
    text: str
    kept: tuple[Span, ...] | None
    more: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A row before and after. `fingerprint` decides whether it is shown."""

    __pydantic_config__ = STORED

    fingerprint: str
    note: RowNote
    pieces: tuple[Piece, ...]
    more_pieces: int
    compressed: str


def sample_of(note: RowNote, fingerprint: str, prompt: Prompt, outcome: CompressedPrompt) -> Sample:
    """What is kept of a row: `PIECES` strings at most, `CHARACTERS` characters of them and of the result."""
    pieces = [piece for piece in _pieces(prompt, outcome) if piece.text]
    shown = tuple(map(_cut, pieces[:PIECES], _rooms(pieces[:PIECES])))
    return Sample(fingerprint, note, shown, max(0, len(pieces) - PIECES), _shortened(outcome.text))


def _pieces(prompt: Prompt, outcome: CompressedPrompt) -> Iterator[Piece]:
    yield Piece("instruction", prompt.instruction, _whole(prompt.instruction, outcome.instruction))
    alone = sum(map(bool, (prompt.instruction, *prompt.context, prompt.question))) == 1
    for number, (text, spans) in enumerate(zip(prompt.context, outcome.kept_spans, strict=False)):
        yield Piece("document" if alone and text else f"context {number}", text, tuple(spans))
    yield Piece("question", prompt.question, _whole(prompt.question, outcome.question))


def _whole(before: str, after: str) -> tuple[Span, ...] | None:
    return ((0, len(before)),) if before == after else None


def _rooms(pieces: Sequence[Piece]) -> list[int]:
    """Characters of each piece that are kept, `CHARACTERS` in all: what short ones leave goes to the longer ones."""
    wanted = [min(len(piece.text), CHARACTERS if piece.kept != () else DROPPED_CHARACTERS) for piece in pieces]
    rooms, left = [0] * len(pieces), CHARACTERS
    for place, index in enumerate(sorted(range(len(pieces)), key=wanted.__getitem__)):
        rooms[index] = min(wanted[index], left // (len(pieces) - place))
        left -= rooms[index]
    return rooms


def _cut(piece: Piece, room: int) -> Piece:
    if len(piece.text) <= room:
        return piece
    kept = piece.kept and tuple((start, min(end, room)) for start, end in piece.kept if start < room)
    return Piece(piece.name, piece.text[:room], kept, len(piece.text) - room)


def _shortened(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} … ({len(text) - CHARACTERS:,} more characters)"
