"""Rows with results → the bytes of a part: Parquet (zstd) or JSON Lines.

Parquet takes the input's Arrow rows as they are. JSON Lines take JSON objects as they are; what comes from Parquet and
JSON cannot say becomes a string: times in ISO form, binary in base64, decimals in digits. NaN and infinity are written
as Python's `json` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.columns import RESULTS
from cluster.rows import Row
from cluster.schema import printable
from cluster.values import json_text

GROUP_BYTES = 32 << 20
GROUP_ROWS = 16384


class ParquetEncoder:
    """Rows of one Arrow schema into a Parquet file; a row group per `GROUP_BYTES` or `GROUP_ROWS`."""

    def __init__(self, path: Path, carried: pa.Schema, output: pa.Schema) -> None:
        self._carried, self._output = carried, output
        self._writer = pq.ParquetWriter(path, output, compression="zstd")
        self._measured = [index for index, field in enumerate(carried) if not pa.types.is_dictionary(field.type)]
        self._records: list[pa.RecordBatch] = []
        self._results: list[dict[str, Any]] = []
        self._size = 0

    def write(self, row: Row, results: dict[str, Any]) -> None:
        """Append a row that carries Arrow."""
        record = cast(pa.RecordBatch, row.carried)
        self._records.append(record)
        self._results.append(results)
        self._size += len(results["compressed_prompt"])
        self._size += sum(record.column(index).nbytes for index in self._measured)
        if self._size >= GROUP_BYTES or len(self._records) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer. Closing twice is fine."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if not self._records:
            return
        carried = pa.Table.from_batches(self._records, self._carried).combine_chunks()
        results = [pa.array([row[field.name] for row in self._results], field.type) for field in RESULTS]
        table = pa.Table.from_arrays([*carried.columns, *results], schema=self._output)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._records, self._results, self._size = [], [], 0


class JsonlEncoder:
    """Rows as JSON objects, one a line; `names` are the result columns' names in the output."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._names = dict(zip(RESULTS.names, names, strict=True))

    def write(self, row: Row, results: dict[str, Any]) -> None:
        """Append a row."""
        named = {self._names[name]: value for name, value in results.items()}
        self._file.write(json_text({**as_document(row.carried), **named}) + "\n")

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        self._file.close()


def as_document(carried: pa.RecordBatch | dict[str, Any]) -> dict[str, Any]:
    """The input columns of a row as one object of Python values."""
    if isinstance(carried, dict):
        return carried
    columns = [column.cast(printable(column.type)) for column in carried.columns]
    return {name: column[0].as_py() for name, column in zip(carried.schema.names, columns, strict=True)}
