"""Rows of JSON Lines and Parquet for training, as they stand, and the texts in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cluster.encode import as_document
from cluster.errors import RowError
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
        yield row.number, as_document(row.carried)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """What is wrong with a row ends the run, and tells `where` it is: a RowError becomes a ConfigError."""
    try:
        yield
    except RowError as error:
        raise ConfigError(f"{where}: {error.detail}") from None


def text_of(row: Row, name: str) -> str:
    """The text in a column, which may be empty. RowError when there is none."""
    if name not in row:
        raise RowError("no_column", f"no column {name!r}, but {', '.join(sorted(row)) or 'none'}; name the right one")
    value = row[name]
    if not isinstance(value, str):
        raise RowError("no_text", f"{name} = {str(value)[:80]!r} is no text but {type(value).__name__}; write a string")
    require_whole(value, name)
    return value


def filled_text_of(row: Row, name: str) -> str:
    """The text in a column. RowError when there is none but white space."""
    text = text_of(row, name)
    if not text.strip():
        raise RowError("no_text", f"{name} is empty; write a text or remove the row")
    return text


def require_whole(text: str, name: str) -> None:
    """RowError when a text holds a lone surrogate, which no file in UTF-8 can."""
    if not text.isascii() and any(0xD800 <= ord(sign) < 0xE000 for sign in text):
        raise RowError("invalid_unicode", f"{name} holds a lone surrogate: not valid text; mend the row")
