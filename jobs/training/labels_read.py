"""Rows of JSON Lines or Parquet → `Piece`s: what a teacher is shown, and what its labels are committed by.

Four forms of rows: a text, which is cut into chunks; a text with its compression, or with answers that stand in it;
words with their labels. A row that cannot be used ends the run, with its file, number and field: whoever trains on a
corpus wants to know what is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from cluster.inputs import expand_inputs
from cluster.shards import Source
from cluster.storage import Storage
from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_answers import label_answers
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_records import from_row
from jobs.training.reading import Row, filled_text_of, naming, read_rows
from lingua.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Piece:
    """A row, or a chunk of a row's text; `origin` says which file and row it is from."""

    origin: str
    text: str
    compressed: str = ""
    row: Row | None = None


def require_rows(config: DistillConfig, storage: Storage) -> int:
    """How many rows there are; each was looked at. ConfigError when one cannot be used, or there is none."""
    count = sum(1 for _ in _whole(config, storage))
    if not count:
        raise ConfigError(f"input = {', '.join(config.inputs)}: holds no rows")
    return count


def read_pieces(config: DistillConfig, storage: Storage, chunker: Chunker) -> Iterator[Piece]:
    """The pieces of all rows in the order of the inputs, streamed."""
    for piece in _whole(config, storage):
        if config.form == "text":
            yield from (Piece(piece.origin, chunk) for chunk in chunker.chunks(piece.text))
        else:
            yield piece


def groups(pieces: Iterable[Piece], size: int) -> Iterator[tuple[int, list[Piece]]]:
    """Pieces by `size`, numbered from 0: what is labelled and committed at once."""
    source, number = iter(pieces), 0
    while group := list(islice(source, size)):
        yield number, group
        number += 1


def _whole(config: DistillConfig, storage: Storage) -> Iterator[Piece]:
    rows = (found for source in expand_inputs(config.inputs, storage) for found in _rows(source, storage))
    for origin, row in islice(rows, config.limit):
        with naming(origin):
            yield _piece(config, origin, row)


def _piece(config: DistillConfig, origin: str, row: Row) -> Piece:
    if config.form == "labels":
        return Piece(origin, from_row(row, origin).text, row=row)
    text = filled_text_of(row, config.text_column)
    if config.form == "answers":
        label_answers(text, row.get(config.answers_column), origin)
        return Piece(origin, text, row=row)
    return Piece(origin, text, filled_text_of(row, config.compressed_column) if config.form == "pairs" else "")


def _rows(source: Source, storage: Storage) -> Iterator[tuple[str, Row]]:
    """(file and number from 0, columns) of every row."""
    name = source.path.rpartition("/")[2]
    return ((f"{name}, row {number}", row) for number, row in read_rows(source, storage))
