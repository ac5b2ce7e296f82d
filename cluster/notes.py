"""What files note of their columns as a whole (schema metadata), carried over to the parts.

Notes that all files share pass through. Three libraries read the list of columns from theirs, and would not see the
result columns, or take other columns for something that they are not: the notes of pandas (what is the index), of
`datasets` (features) and of Spark (its schema) are kept as far as they are true of every file, and extended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

PANDAS, DATASETS, SPARK = b"pandas", b"huggingface", b"org.apache.spark.sql.parquet.row.metadata"
_PANDAS_TYPES = {
    pa.string(): ("unicode", "object"),
    pa.int64(): ("int64", "int64"),
    pa.float64(): ("float64", "float64"),
    pa.list_(pa.string()): ("list[unicode]", "object"),
    pa.list_(pa.int64()): ("list[int64]", "object"),
}
_SPARK_TYPES = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double"}

Notes = Mapping[bytes, bytes]


def shared(schemas: Sequence[pa.Schema], common: pa.Schema) -> dict[bytes, bytes] | None:
    """The notes that are true of all these files once they have a `common` schema."""
    first, *others = [dict(schema.metadata or {}) for schema in schemas]
    kept = {key: note for key, note in first.items() if all(other.get(key) == note for other in others)}
    if PANDAS in first and others:
        kept.pop(PANDAS, None)
        read = [_read(note.get(PANDAS)) for note in (first, *others)]
        with suppress(KeyError, TypeError, AttributeError):  # one is not as pandas writes it
            kept[PANDAS] = json.dumps(_of_all_frames(read, schemas, common)).encode()
    return kept or None


def _of_all_frames(read: Sequence[dict[str, Any]], schemas: Sequence[pa.Schema], common: pa.Schema) -> dict[str, Any]:
    """The columns that all frames describe alike and store alike, and the index columns that all of them name."""
    same = {field.name for field in common if all(_has(schema, field) for schema in schemas)}
    described = [{entry.get("field_name", entry.get("name")): entry for entry in one["columns"]} for one in read]
    entries = [
        entry
        for name, entry in described[0].items()
        if name in same and all(other.get(name) == entry for other in described[1:])
    ]
    # a range counts the rows of its own file: of several files it is true of none
    index = [name for name in read[0]["index_columns"] if isinstance(name, str)]
    index = (
        index if all(index == [name for name in one["index_columns"] if isinstance(name, str)] for one in read) else []
    )
    return {**read[0], "columns": entries, "index_columns": [name for name in index if name in common.names]}


def _has(schema: pa.Schema, field: pa.Field) -> bool:
    position = schema.get_field_index(field.name)
    return position >= 0 and bool(schema.field(position).type == field.type)


def extended(notes: Notes | None, added: Sequence[pa.Field]) -> dict[bytes, bytes] | None:
    """The notes of a file that has these columns behind its own."""
    kept = dict(notes or {})
    for key, extend in ((PANDAS, _pandas), (DATASETS, _datasets), (SPARK, _spark)):
        if key in kept:
            try:
                kept[key] = json.dumps(extend(_read(kept[key]), added)).encode()
            except (KeyError, TypeError, AttributeError):  # it is not as that library writes it
                del kept[key]
    return kept or None


def _read(note: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(note or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pandas(note: dict[str, Any], added: Sequence[pa.Field]) -> dict[str, Any]:
    entries = [
        {"name": field.name, "field_name": field.name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for field in added
        for kind, stored in [_PANDAS_TYPES[field.type]]
    ]
    return {**note, "columns": [*note["columns"], *entries]}


def _datasets(note: dict[str, Any], added: Sequence[pa.Field]) -> dict[str, Any]:
    features = {field.name: _feature(field.type) for field in added}
    return {"info": {"features": {**note["info"]["features"], **features}}}


def _feature(kind: pa.DataType) -> Any:
    """A list in brackets, which every version of `datasets` reads."""
    return [_feature(kind.value_type)] if pa.types.is_list(kind) else {"dtype": _name(kind), "_type": "Value"}


def _name(kind: pa.DataType) -> str:
    return "float64" if pa.types.is_float64(kind) else str(kind)


def _spark(note: dict[str, Any], added: Sequence[pa.Field]) -> dict[str, Any]:
    fields = [
        {"name": field.name, "type": _spark_type(field.type), "nullable": True, "metadata": {}} for field in added
    ]
    return {**note, "fields": [*note["fields"], *fields]}


def _spark_type(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _spark_type(kind.value_type), "containsNull": True}
    return _SPARK_TYPES[kind]
