"""`Labelled`: a text cut into words, each with a score: the form in which labels are made, stored and given.

The words' texts add up to the text (white space stands before its word), so nothing has to be matched again when
another tokenizer cuts it. What the scores mean is the teacher's business: surprisal in nats, a probability, or 0 and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from cluster.errors import RowError
from jobs.training.reading import require_whole
from lingua.words import word_edges


@dataclass(frozen=True, slots=True)
class Labelled:
    """A chunk of text and what its words are worth.

    words, scores   the words and their scores, as many of the one as of the other
    origin          file and row that the text is from: chunks of one origin are trained on or held out together
    variation, gap  quality of an aligned compression (`labels_align`); 0 where nothing was aligned
    """

    words: tuple[str, ...]
    scores: tuple[float, ...]
    origin: str = ""
    variation: float = 0.0
    gap: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.words)

    def to_line(self) -> bytes:
        """The record as a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text as `unit: word` cuts them; they add up to it."""
    return tuple(text[start:end] for start, end in pairwise([*word_edges(text).tolist(), len(text)]))


def to_bytes(records: Iterable[Labelled]) -> bytes:
    """Records as JSON Lines."""
    return b"".join(record.to_line() for record in records)


def from_bytes(data: bytes) -> list[Labelled]:
    """The inverse of `to_bytes`."""
    return [_record(json.loads(line)) for line in data.splitlines()]


def from_row(row: Mapping[str, Any], origin: str) -> Labelled:
    """A record from a row with `words` and `labels` (or `scores`). RowError when they do not belong together."""
    words, scores = row.get("words"), row.get("labels", row.get("scores"))
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RowError("no_words", "a labelled row needs 'words', a list of strings that add up to its text")
    require_whole("".join(words), "words")
    if not isinstance(scores, list) or not all(_is_number(score) for score in scores):
        raise RowError("no_labels", "a labelled row needs 'labels' (or 'scores'), a list of numbers")
    if len(words) != len(scores):
        raise RowError("wrong_labels", f"{len(words)} words but {len(scores)} labels: give one label for each word")
    quality = {name: float(row[name]) for name in ("variation", "gap") if _is_number(row.get(name))}
    return Labelled(tuple(words), tuple(map(float, scores)), str(row.get("origin", origin)), **quality)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _record(content: dict[str, Any]) -> Labelled:
    return Labelled(**{**content, "words": tuple(content["words"]), "scores": tuple(content["scores"])})
