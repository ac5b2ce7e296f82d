"""`Row` and `BadRow`: what a reader gives for each row of an input file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

import pyarrow as pa

from lingua.prompt import CompressedPrompt

RAW_LIMIT = 1 << 20
"""Characters of a rejected row that are kept; file and row number find the rest."""


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row.

    number   in its file, from 0
    values   the mapped columns (prompt and id) as Python values
    carried  all input columns: one Arrow row of the planned schema, or the JSON object itself where none is planned
    earlier  what an earlier output holds for the same prompt, so that no model need see it
    """

    number: int
    values: Mapping[str, Any]
    carried: pa.RecordBatch | dict[str, Any]
    earlier: CompressedPrompt | None = None

    def rejected(self, reason: str, detail: str) -> BadRow:
        """This row as a reject; `raw` shows its mapped columns as JSON."""
        try:
            raw = json.dumps(self.values, ensure_ascii=False, default=str)
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


def shortened(raw: str) -> str:
    """At most `RAW_LIMIT` characters of a raw value, with a mark where it was cut."""
    return raw if len(raw) <= RAW_LIMIT else f"{raw[:RAW_LIMIT]}… ({len(raw) - RAW_LIMIT} more characters)"


def weight(item: Row | BadRow) -> int:
    """About how many bytes a row keeps in memory while it waits, the columns that only pass through included."""
    if isinstance(item, BadRow):
        return _size(item.raw) + _OVERHEAD
    if isinstance(item.carried, dict):
        size = _size(item.carried)  # its values are among these
    else:
        size = _size(item.values) + sum(map(_arrow_size, item.carried.columns))
    return size + (2 * _size(item.earlier.text) if item.earlier else 0) + _OVERHEAD


_OVERHEAD = 512
_COLUMN = 256
"""Bytes that Python and Arrow take for a row, and for each column of it, beside the values."""


def _arrow_size(column: pa.Array) -> int:
    """Bytes of a column of one row. A dictionary is the file's and shared by all rows."""
    kind = column.type
    return _COLUMN + int(column.indices.nbytes if pa.types.is_dictionary(kind) else column.nbytes)


def _size(value: object) -> int:
    size, waiting = 0, [value]
    while waiting:  # no recursion: values nest as deeply as they like
        one = waiting.pop()
        size += getsizeof(one)
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, Mapping):
            waiting.extend([*one, *one.values()])
    return size
