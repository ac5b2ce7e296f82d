"""From a shard to prompts: `read_rows` streams its rows, and a `RowForm` says what a row is to a compressor.

A row carries what prompts are made of as Python values, and all its input columns as the output will hold them. As
Arrow they pass through without a conversion (nested types, nanoseconds, dictionaries, binary). As JSON, what it cannot
say becomes a string: times in ISO form (their bare number where they have none), binary and decimals as text. Row
numbers are those of the file, from 0: for JSON Lines the line's, blank lines included. `jsonl` and `parquet` say what
becomes of damaged files; a file that is not the planned one any more is SourceChanged, looked at before the first row
and again after the last.

A document or a prompt is compressed as it stands. A structured value is taken apart into the pieces of a prompt, and
put together again from what is left of them: that is then the text of its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from cluster.errors import RowError
from cluster.input.arrow import values_of
from cluster.input.columns import Columns, from_arrow, text_of
from cluster.input.jsonl import read_jsonl
from cluster.input.parquet import read_parquet
from cluster.input.shards import ArrowRow, BadRow, Format, Row, Shard, require_unchanged, windows
from cluster.storage.storage import Storage
from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.structured.json import TOO_DEEP
from lingua.structured.streams import Structure, structure_of

Item = Row | BadRow
UNSAYABLE = (ValueError, ArithmeticError, TypeError, LookupError, pa.ArrowException)
"""What is raised for values that have no form in Python or in JSON."""


def read_rows(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    """The rows of a shard in order, streamed. Raises SourceChanged, and RetryShard where the storage fails."""
    require_unchanged(shard.source, storage)
    yield from READERS[shard.source.format](shard, columns, storage)
    require_unchanged(shard.source, storage)


def _formed(row: Row | BadRow, columns: Columns) -> Row | BadRow:
    """A row of Parquet with its structured value in JSON's types, and for JSON Lines all that it carries."""
    if isinstance(row, BadRow):
        return row
    if (kind := columns.mapped.kind) is not None:
        name = getattr(columns.mapped, kind)
        row = replace(row, values={**row.values, name: from_arrow(kind, row.values[name])})
    if not columns.objects or not isinstance(row.carried, ArrowRow):
        return row
    try:
        return replace(row, carried=printed(row.carried.record()))
    except RowError as error:
        try:
            columns.content(row.values)  # where there is nothing to compress, that is the reason
        except PromptError as first:
            return row.rejected(first.reason, first.detail)
        return row.rejected(error.reason, error.detail)


READERS: Mapping[Format, Callable[[Shard, Columns, Storage], Iterator[Item]]] = {
    "parquet": lambda shard, columns, storage: (_formed(row, columns) for row in read_parquet(shard, columns, storage)),
    "jsonl": read_jsonl,
}


def printed(record: pa.RecordBatch) -> dict[str, Any]:
    """The only row of a batch as one object of Python values. RowError when a column has none that JSON takes."""
    document = {}
    for name, column in zip(record.schema.names, record.columns, strict=True):
        try:
            document[name] = values_of(column)[0]
        except MemoryError:
            raise
        except UnicodeDecodeError as error:
            raise RowError("invalid_utf8", f"column {name!r} is not UTF-8 at byte {error.start}") from None
        except UNSAYABLE as error:
            raise RowError("unwritable", f"column {name!r} cannot be written as JSON: {error}") from None
    return document


class ReadAhead:
    """Rows: while those of one window are used, a thread reads the next. Iterate over it once, and close it."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._windows, self._thread = windows(items), ThreadPoolExecutor(1, "read-ahead")
        self._next = self._thread.submit(next, self._windows, None)

    def __iter__(self) -> Iterator[Item]:
        while (window := self._next.result()) is not None:
            self._next = self._thread.submit(next, self._windows, None)
            yield from window

    def close(self) -> None:
        """Stop reading. Safe to call again."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait([self._next], timeout=30)


@dataclass(frozen=True, slots=True)
class RowForm:
    """The way of a row to a prompt and back. `structure`: of its structured value; None: it is compressed as it is."""

    columns: Columns
    structure: Structure[Any] | None = None

    @classmethod
    def of(cls, columns: Columns, compression: CompressionConfig) -> RowForm:
        """The form of a run's rows: its columns and its settings say it."""
        kind = columns.mapped.kind
        return cls(columns, structure_of(kind, compression) if kind else None)

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt in a row's values. PromptError when there is none."""
        if self.structure is None:
            return self.columns.prompt(values)
        try:
            return self.structure.decompose(self.columns.value(values))
        except RecursionError:
            raise PromptError(*TOO_DEEP) from None

    def reassembled(self, item: Row | BadRow, outcome: Outcome) -> Outcome:
        """The outcome of a row from that of its prompt: with the value put together again as its text.

        That of an earlier output is it already.
        """
        if self.structure is None or isinstance(item, BadRow) or isinstance(outcome, Rejected) or item.earlier:
            return outcome
        try:
            value = self.structure.reassemble(self.columns.value(item.values), outcome)
            return replace(outcome, text=text_of(value))
        except RecursionError:  # putting together nests deeper than taking apart
            return Rejected(*TOO_DEEP)
