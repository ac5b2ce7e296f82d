"""`ShardSummary`: what the report shows of a shard beyond its counts, gathered while its rows are written.

A histogram of rates, the few rows that took longest or kept most (`RowNote`), and a few `Sample`s with the kept
characters; of long texts the beginning. Its size is bounded whatever the shard holds, and it lies beside the shard's
record: workers write it, only the report reads it. Samples are the rows with the smallest fingerprints (a bottom-k
sketch, Cohen & Kaplan 2007): once the shards' summaries are merged, a uniform sample of the corpus's distinct rows, and
the same one however often the run was interrupted.
"""

from __future__ import annotations

import json
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.input.shards import STORED, Count, Row, encodable, parsed
from lingua.prompt import CompressedPrompt, Prompt, Span

CHARACTERS = 1600
"""Characters of a sample's original and of its result that are kept."""
PIECES = 12
DROPPED_CHARACTERS = 80
"""Of a string that was dropped, as there is nothing to see in it."""
BINS = 20
EXTREMES = 3
ID_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class RowNote:
    """One row in figures. `seconds`: from the end of the row before it to its own end, so what it held up."""

    __pydantic_config__ = STORED

    row: int
    id: str | None
    status: str
    origin_tokens: int
    compressed_tokens: int
    target_tokens: int
    seconds: float
    fidelity: float = 1.0
    predicted: float | None = None  # how well the result predicts the original; None: it is not in the fidelity sample

    @property
    def rate(self) -> float | None:
        """Kept share of the tokens; None of a row without any."""
        return self.compressed_tokens / self.origin_tokens if self.origin_tokens else None


@dataclass(frozen=True, slots=True)
class Excerpt:
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
    pieces: tuple[Excerpt, ...]
    more_pieces: int
    compressed: str


def sample_of(note: RowNote, fingerprint: str, prompt: Prompt, outcome: CompressedPrompt) -> Sample:
    """What is kept of a row: `PIECES` strings at most, `CHARACTERS` characters of them and of the result."""
    pieces = [piece for piece in _pieces(prompt, outcome) if piece.text]
    shown = tuple(map(_cut, pieces[:PIECES], _rooms(pieces[:PIECES])))
    text = outcome.text
    if len(text) > CHARACTERS:
        text = f"{text[:CHARACTERS]} … ({len(text) - CHARACTERS:,} more characters)"
    return Sample(fingerprint, note, shown, max(0, len(pieces) - PIECES), text)


def _pieces(prompt: Prompt, outcome: CompressedPrompt) -> Iterator[Excerpt]:
    yield Excerpt("instruction", prompt.instruction, _whole(prompt.instruction, outcome.instruction))
    alone = sum(map(bool, (prompt.instruction, *prompt.context, prompt.question))) == 1
    for number, (text, spans) in enumerate(zip(prompt.context, outcome.kept_spans, strict=False)):
        yield Excerpt("document" if alone and text else f"context {number}", text, tuple(spans))
    yield Excerpt("question", prompt.question, _whole(prompt.question, outcome.question))


def _whole(before: str, after: str) -> tuple[Span, ...] | None:
    return ((0, len(before)),) if before == after else None


def _rooms(pieces: Sequence[Excerpt]) -> list[int]:
    """Characters of each piece that are kept, `CHARACTERS` in all: what short ones leave goes to the longer ones."""
    wanted = [min(len(piece.text), CHARACTERS if piece.kept != () else DROPPED_CHARACTERS) for piece in pieces]
    rooms, left = [0] * len(pieces), CHARACTERS
    for place, index in enumerate(sorted(range(len(pieces)), key=wanted.__getitem__)):
        rooms[index] = min(wanted[index], left // (len(pieces) - place))
        left -= rooms[index]
    return rooms


def _cut(piece: Excerpt, room: int) -> Excerpt:
    if len(piece.text) <= room:
        return piece
    kept = piece.kept and tuple((start, min(end, room)) for start, end in piece.kept if start < room)
    return Excerpt(piece.name, piece.text[:room], kept, len(piece.text) - room)


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What the report shows of one shard.

    rates, fidelities   rows by kept share of their tokens, and by fidelity [BINS each], the last bin with 1.0
    worst, lost         rows that kept most of their tokens; those of the lowest fidelity
    foretold            rows of the fidelity sample that predict their original worst
    poorest             the rows of `lost` with their text, as far as samples are wanted
    """

    __pydantic_config__ = STORED

    rates: tuple[Count, ...]
    fidelities: tuple[Count, ...] = (0,) * BINS
    slowest: tuple[RowNote, ...] = ()
    worst: tuple[RowNote, ...] = ()
    lost: tuple[RowNote, ...] = ()
    foretold: tuple[RowNote, ...] = ()
    samples: tuple[Sample, ...] = ()
    poorest: tuple[Sample, ...] = ()

    def to_bytes(self) -> bytes:
        """As JSON; half of a surrogate pair, which strict readers refuse, becomes a question mark."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace")

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardSummary:
        """The inverse of `to_bytes`. ValueError when it is no summary."""
        summary = parsed(cls, data, "a summary")
        if not len(summary.rates) == len(summary.fidelities) == BINS:
            raise ValueError(f"not a summary (a histogram has no {BINS} bins)")
        return summary


class Summarizer:
    """Gathers the summary of one shard; `samples` rows at most are kept with their text."""

    def __init__(
        self, samples: int, id_column: str | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._wanted, self._id_column, self._clock = samples, id_column, clock
        self._last = clock()
        self._rates, self._fidelities = [0] * BINS, [0] * BINS
        self._notes: dict[str, list[RowNote]] = {name: [] for name in NOTED}
        self._samples: list[Sample] = []
        self._poorest: list[Sample] = []

    def skip(self) -> None:
        """A row ended without a result: the next one is not charged with its time."""
        self._last = self._clock()

    def add(self, row: Row, prompt: Callable[[], Prompt], outcome: CompressedPrompt, fingerprint: str) -> None:
        """Take down an accepted row; of one from an earlier output only rate and fidelity are.

        `prompt` gives what was compressed; it is asked if the row is shown with its text.
        """
        note = self._note(row, outcome)
        if note.rate is not None:
            self._rates[bin_of(note.rate)] += 1
        self._fidelities[bin_of(note.fidelity)] += 1
        if row.earlier is not None:
            return
        self._keep("slowest", note)
        if outcome.status in ("passthrough", "kept"):
            return
        self._keep("worst", note)
        self._keep("lost", note)
        if note.predicted is not None:
            self._keep("foretold", note)
        room = len(self._samples) < self._wanted or (self._samples and fingerprint < self._samples[-1].fingerprint)
        if room and all(fingerprint != sample.fingerprint for sample in self._samples):  # equal rows count once
            sample = sample_of(note, fingerprint, prompt(), outcome)
            insort(self._samples, sample, key=lambda sample: sample.fingerprint)
            del self._samples[self._wanted :]
        if note in self._notes["lost"][: self._wanted]:
            insort(self._poorest, sample_of(note, fingerprint, prompt(), outcome), key=lambda one: loss(one.note))
            del self._poorest[self._wanted :]

    def summary(self) -> ShardSummary:
        notes = {name: tuple(found) for name, found in self._notes.items()}
        kept = {"samples": tuple(self._samples), "poorest": tuple(self._poorest)}
        return ShardSummary(tuple(self._rates), tuple(self._fidelities), **notes, **kept)  # type: ignore[arg-type]

    def _keep(self, name: str, note: RowNote) -> None:
        notes, order = self._notes[name], NOTED[name]
        if len(notes) < EXTREMES or order(note) < order(notes[-1]):
            insort(notes, note, key=order)
            del notes[EXTREMES:]

    def _note(self, row: Row, outcome: CompressedPrompt) -> RowNote:
        before, self._last = self._last, self._clock()
        named = row.values.get(self._id_column) if self._id_column else None
        shown = None if named is None else encodable(str(named))
        if shown is not None and len(shown) > ID_CHARACTERS:
            shown = f"{shown[: ID_CHARACTERS - 1]}…"
        tokens = outcome.origin_tokens, outcome.compressed_tokens, outcome.target_tokens
        seconds = round(self._last - before, 3)
        return RowNote(row.number, shown, outcome.status, *tokens, seconds, outcome.fidelity, outcome.predicted)


def bin_of(rate: float) -> int:
    """The bin of a share; what lies on an edge counts above it, 1.0 in the last bin."""
    return max(0, min(BINS - 1, int(rate * BINS + 1e-9)))


def loss(note: RowNote) -> tuple[float, int]:
    """What the rows that lost most are ordered by: the lowest fidelity, of equal ones the longest row."""
    return note.fidelity, -note.origin_tokens


NOTED: dict[str, Callable[[RowNote], Any]] = {
    "slowest": lambda note: -note.seconds,
    "worst": lambda note: (-(note.rate or 0.0), -note.origin_tokens),
    "lost": loss,
    "foretold": lambda note: (1.0 if note.predicted is None else note.predicted, -note.origin_tokens),
}
"""The lists of single rows in a summary, and what each is ordered by; of equal ones the longest is worse."""
