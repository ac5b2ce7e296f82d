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
_SPARK_TYPES = {
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.uint8(): "short",
    pa.uint16(): "integer",
    pa.uint32(): "long",
    pa.uint64(): "decimal(20,0)",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
}
_DTYPES = {
    pa.float16(): "float16",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.date32(): "date32",
    pa.date64(): "date64",
}
"""What `datasets` calls otherwise than Arrow."""

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


def extended(notes: Notes | None, schema: pa.Schema, added: Sequence[pa.Field]) -> dict[bytes, bytes] | None:
    """The notes of a file with the columns of `schema`, of which `added` are ours.

    Spark and `datasets` see no column that theirs does not name, so these name all: folders and other files bring some.
    """
    kept = dict(notes or {})
    for key, extend, fields in ((PANDAS, _pandas, added), (DATASETS, _datasets, schema), (SPARK, _spark, schema)):
        if key in kept:
            try:
                kept[key] = json.dumps(extend(_read(kept[key]), list(fields))).encode()
            except (KeyError, TypeError, AttributeError):  # not as that library writes it, or it has no such type
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


def _datasets(note: dict[str, Any], fields: Sequence[pa.Field]) -> dict[str, Any]:
    known = note["info"]["features"]
    return {
        "info": {"features": {**known, **{one.name: _feature(one.type) for one in fields if one.name not in known}}}
    }


def _feature(kind: pa.DataType) -> Any:
    """A list in brackets, which every version of `datasets` reads. KeyError for a type that it does not have."""
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        raise KeyError(str(kind))
    return {"dtype": _DTYPES.get(kind, str(kind)), "_type": "Value"}


def _spark(note: dict[str, Any], fields: Sequence[pa.Field]) -> dict[str, Any]:
    known = {field["name"] for field in note["fields"]}
    return {**note, "fields": [*note["fields"], *(_spark_field(one) for one in fields if one.name not in known)]}


def _spark_field(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, "type": _spark_type(field.type), "nullable": True, "metadata": {}}


def _spark_type(kind: pa.DataType) -> Any:
    """The type as Spark calls it. KeyError for one that it does not have."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"type": "array", "elementType": _spark_type(kind.value_type), "containsNull": True}
    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": [_spark_field(field) for field in kind]}
    if pa.types.is_map(kind):
        key, value = _spark_type(kind.key_type), _spark_type(kind.item_type)
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "timestamp" if kind.tz else "timestamp_ntz"
    return _SPARK_TYPES[kind]
