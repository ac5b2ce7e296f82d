"""Reading a shard, row by row and in bounded memory: `read_rows` gives a `Row` or, where there is none, a `BadRow`.

A row carries what prompts are made of as Python values and all its input columns as Arrow, so that columns pass through
without a conversion (nested types, nanoseconds, dictionaries, binary). Row numbers are those of the file, from 0: for
JSON Lines the line's, blank lines included. `jsonl.py` and `parquet.py` say what becomes of damaged files; a file that
is not the planned one any more is SourceChanged, looked at before the first row and again after the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.columns import Columns
from cluster.inputs import require_unchanged
from cluster.jsonl import read_jsonl
from cluster.parquet import read_parquet
from cluster.rows import BadRow, Row
from cluster.shards import Shard
from cluster.storage import Storage
from cluster.values import from_arrow

__all__ = ["BadRow", "Columns", "Row", "read_rows"]


def read_rows(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    """The rows of a shard in order, streamed. Raises SourceChanged, and RetryShard where the storage fails."""
    require_unchanged(shard.source, storage)
    if shard.source.format == "parquet":
        for row in read_parquet(shard, columns, storage):
            yield _as_json(row, columns)
    else:
        yield from read_jsonl(shard, columns, storage)
    require_unchanged(shard.source, storage)


def _as_json(row: Row | BadRow, columns: Columns) -> Row | BadRow:
    """A row of Arrow with its structured value, if it has one, in JSON's types."""
    kind = columns.mapped.kind
    if kind is None or isinstance(row, BadRow):
        return row
    name = getattr(columns.mapped, kind)
    return replace(row, values={**row.values, name: from_arrow(kind, row.values[name])})
