"""Rows of JSON Lines and Parquet for training, as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.jsonl import read_jsonl
from cluster.parquet import open_parquet
from cluster.rows import BadRow
from cluster.shards import Shard, Source
from cluster.storage import Storage
from lingua.errors import ConfigError

Row = Mapping[str, Any]


def read_rows(source: Source, storage: Storage, columns: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """(number from 0, columns) of every row; `columns`: those that are needed, none: all. ConfigError for a bad row."""
    if source.format == "parquet":
        with open_parquet(source, storage) as file:
            names = [name for name in columns if name in file.schema_arrow.names]
            batches = file.iter_batches(columns=names or None, use_threads=False)
            yield from enumerate(row for batch in batches for row in batch.to_pylist())
        return
    for row in read_jsonl(Shard("rows", source, 0, source.size), None, storage, tuple(columns)):
        if isinstance(row, BadRow):
            raise ConfigError(f"{source.path}, row {row.number}: {row.detail}")
        yield row.number, dict(row.carried)


def holds_half_a_character(value: str) -> bool:
    """Whether a text holds a lone surrogate, which no file in UTF-8 can."""
    return not value.isascii() and any(0xD800 <= ord(sign) < 0xE000 for sign in value)
