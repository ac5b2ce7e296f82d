"""Reading a shard, row by row and in bounded memory: `read_rows` gives a `Row` or, where there is none, a `BadRow`.

A row carries what prompts are made of as Python values and all its input columns as Arrow, so that columns pass through
without a conversion (nested types, nanoseconds, dictionaries, binary). Row numbers are those of the file, from 0: for
JSON Lines the line's, blank lines included. `jsonl.py` and `parquet.py` say what becomes of damaged files; a file that
is not the planned one any more is SourceChanged, looked at before the first row and again after the last.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.columns import Columns
from cluster.inputs import require_unchanged
from cluster.jsonl import read_jsonl
from cluster.parquet import read_parquet
from cluster.rows import BadRow, Row
from cluster.shards import Shard
from cluster.storage import Storage

__all__ = ["BadRow", "Columns", "Row", "read_rows"]


def read_rows(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    """The rows of a shard in order, streamed. Raises SourceChanged, and RetryShard where the storage fails."""
    require_unchanged(shard.source, storage)
    read = read_parquet if shard.source.format == "parquet" else read_jsonl
    yield from read(shard, columns.schema, storage, columns.mapped.all)
    require_unchanged(shard.source, storage)
