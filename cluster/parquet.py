"""Reading rows [start, end) of a Parquet file in small batches, whatever the size of its row groups.

Columns are read through small buffers and decoded a few megabytes at a time. A page that cannot be read makes each
remaining row of the shard a BadRow (``unreadable``); text that is not UTF-8 only its own row (``invalid_utf8``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import SourceUnusable
from cluster.inputs import require_unchanged
from cluster.rows import BadRow, Row
from cluster.schema import printable
from cluster.shards import Shard, Source
from cluster.storage import Storage

BATCH_BYTES = 8 << 20
BATCH_ROWS = 1024
BUFFER = 1 << 20


def open_parquet(source: Source, storage: Storage) -> pq.ParquetFile:
    """A Parquet file for streaming. SourceUnusable when it is not a whole one."""
    try:
        reader = storage.open(source.path, source.size)
        return pq.ParquetFile(reader, pre_buffer=False, buffer_size=BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise SourceUnusable(
            f"{source.path}: not a whole Parquet file ({error}); write it again, or leave it out of the inputs"
        ) from None


def read_parquet(shard: Shard, schema: pa.Schema, storage: Storage, mapped: Sequence[str]) -> Iterator[Row | BadRow]:
    """The rows of a shard, streamed; `mapped` names the columns that a Row shows as values."""
    number = shard.start
    try:
        for batch in _batches(shard, storage):
            carried = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
            for index in range(carried.num_rows):
                yield _row(number, carried.slice(index, 1), mapped)
                number += 1
    except (pa.ArrowException, OSError) as error:  # the storage's own failures are ClusterErrors already
        require_unchanged(shard.source, storage)
        detail = f"the file is damaged ({error}); rows {number} to {shard.end - 1} cannot be read"
        yield from (BadRow(lost, "unreadable", detail) for lost in range(number, shard.end))


def _row(number: int, record: pa.RecordBatch, mapped: Sequence[str]) -> Row | BadRow:
    try:
        return Row(number, {name: _value(record.column(name)) for name in mapped}, record)
    except UnicodeDecodeError as error:
        raw = repr(error.object[:1000])
        return BadRow(number, "invalid_utf8", f"a mapped column is not UTF-8 at byte {error.start}", raw)


def _value(column: pa.Array) -> Any:
    """The only value of a column, with moments as text."""
    kind = printable(column.type)
    return (column if kind == column.type else column.cast(kind))[0].as_py()


def _batches(shard: Shard, storage: Storage) -> Iterator[pa.RecordBatch]:
    """The shard's rows, decoded from the beginning of the row group in which it starts."""
    with open_parquet(shard.source, storage) as file:
        groups, skip = _groups(file.metadata, shard.start, shard.end)
        left = shard.end - shard.start
        for batch in file.iter_batches(_batch_rows(file.metadata), row_groups=groups, use_threads=False):
            wanted = batch.slice(skip, left)
            skip = max(0, skip - batch.num_rows)
            left -= wanted.num_rows
            if wanted.num_rows:
                yield wanted
            if not left:
                return


def _groups(metadata: Any, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows [start, end), and how many rows of the first one come before `start`."""
    counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    ends = list(accumulate(counts))
    groups = [index for index, last in enumerate(ends) if last > start and last - counts[index] < end]
    return groups, start - (ends[groups[0]] - counts[groups[0]]) if groups else 0


def _batch_rows(metadata: Any) -> int:
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size))))
