"""Reading a part again, row by row: the input columns that it carries, and its results by their unprefixed names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.columns import RESULTS
from cluster.jsonl import split_lines
from cluster.parquet import open_parquet, read_batches
from cluster.plan import Plan
from cluster.rows import ArrowRow, BadRow, Carried
from cluster.shards import Shard, Source
from cluster.storage import Storage
from lingua.structured.exact import loads


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row of a part."""

    carried: Carried
    results: dict[str, Any]


def read_part(plan: Plan, url: str, storage: Storage) -> Iterator[OutputRow]:
    """The rows of a part, streamed. ValueError, KeyError or OSError when it is none."""
    size = int(storage.info(url)["size"])
    if plan.output_format == "parquet":
        return _from_parquet(plan, url, size, storage)
    return _from_lines(plan, url, size, storage)


def _from_parquet(plan: Plan, url: str, size: int, storage: Storage) -> Iterator[OutputRow]:
    schema = plan.columns.schema
    if schema is None:
        raise ValueError("the plan has no schema, and Parquet parts need one")
    source = Source(url, size, "", "parquet")
    with open_parquet(source, storage) as file:
        _require_schema(file.schema_arrow, plan.columns.output_schema)
        rows = file.metadata.num_rows
    for batch in read_batches(Shard("", source, 0, rows), plan.columns.output_schema, storage):
        if isinstance(batch, BadRow):
            raise ValueError(f"row {batch.number}: {batch.detail}")
        carried = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
        results = [batch.column(plan.columns.result_name(name)).to_pylist() for name in RESULTS.names]
        for index, values in enumerate(zip(*results, strict=True)):
            yield OutputRow(ArrowRow(carried, index), dict(zip(RESULTS.names, values, strict=True)))


def _require_schema(found: pa.Schema, planned: pa.Schema) -> None:
    if found.names != planned.names or found.types != planned.types:
        raise ValueError(f"its columns are not the planned ones: {', '.join(found.names)}")


def _from_lines(plan: Plan, url: str, size: int, storage: Storage) -> Iterator[OutputRow]:
    for line in split_lines(storage.blocks(url, 0, size), limit=1 << 40):
        if not isinstance(line, bytes):
            raise ValueError("a line cannot be read")
        document = loads(line.decode())
        results = {name: document.pop(plan.columns.result_name(name)) for name in RESULTS.names}
        yield OutputRow(document, results)
