"""`Row` and `BadRow`: what a reader gives for each row of an input file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

import pyarrow as pa

from lingua.prompt import CompressedPrompt
from lingua.structured.exact import dumps

RAW_LIMIT = 1 << 20
"""Characters of a rejected row that are kept; file and row number find the rest."""


@dataclass(frozen=True, slots=True)
class ArrowRow:
    """One row of a record batch, by its position: it has no arrays of its own. `size`: its share of the bytes."""

    batch: pa.RecordBatch
    index: int
    size: int = 0

    def record(self) -> pa.RecordBatch:
        """A batch of this row alone."""
        return self.batch.slice(self.index, 1)


def arrow_rows(batch: pa.RecordBatch) -> Iterator[ArrowRow]:
    """The rows of a batch, each with an equal share of its bytes. A dictionary is the file's and shared by all rows."""
    own = [column.indices if pa.types.is_dictionary(column.type) else column for column in batch.columns]
    size = sum(column.nbytes for column in own) // max(1, batch.num_rows)
    return (ArrowRow(batch, index, size) for index in range(batch.num_rows))


Carried = ArrowRow | dict[str, Any]
"""All input columns of a row: of a Parquet file, or of a JSON object, as it came or fitted to planned columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row.

    number   in its file, from 0
    values   the mapped columns (prompt and id) as Python values
    carried  all input columns, as the output will hold them
    earlier  what an earlier output holds for the same prompt, so that no model need see it
    """

    number: int
    values: Mapping[str, Any]
    carried: Carried
    earlier: CompressedPrompt | None = None

    def rejected(self, reason: str, detail: str) -> BadRow:
        """This row as a reject; `raw` shows its mapped columns as JSON."""
        try:
            raw = encodable(dumps(self.values, default=str))
        except RecursionError:
            raw = "(nests too deeply to be shown)"
        return BadRow(self.number, reason, detail, shortened(raw))


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not compressed: `reason` is short and stable, `detail` for people, `raw` what stood in the file."""

    number: int
    reason: str
    detail: str
    raw: str | None = None


def encodable(text: str) -> str:
    """The text with lone surrogates as their escapes (``\\ud83d``): no file of text can hold them as they are."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def shortened(raw: str) -> str:
    """At most `RAW_LIMIT` characters of a raw value, with a mark where it was cut."""
    return raw if len(raw) <= RAW_LIMIT else f"{raw[:RAW_LIMIT]}… ({len(raw) - RAW_LIMIT} more characters)"


def weight(item: Row | BadRow) -> int:
    """About how many bytes a row keeps in memory while it waits, the columns that only pass through included."""
    if isinstance(item, BadRow):
        return size_of(item.raw) + _OVERHEAD
    kept = item.carried if isinstance(item.carried, dict) else {}
    size = item.carried.size if isinstance(item.carried, ArrowRow) else size_of(kept)
    size += sum(size_of(value) for name, value in item.values.items() if kept.get(name) is not value)
    return size + (2 * size_of(item.earlier.text) if item.earlier else 0) + _OVERHEAD


_OVERHEAD = 512
"""Bytes that a row takes beside its values."""


def size_of(value: object) -> int:
    """Bytes that a value of Python's takes, with all that it holds."""
    size, waiting = 0, [value]
    while waiting:  # no recursion: values nest as deeply as they like
        one = waiting.pop()
        size += getsizeof(one)
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend([*one, *one.values()])
    return size
