"""Arrow types and schema metadata: what a type holds, how Python sees its values, and what files note of their columns.

Batches are put into other types where no value changes. Notes (schema metadata) that all files share pass through to
the parts. Three libraries read the list of columns from theirs, and would not see the result columns, or take other
columns for something that they are not: the notes of pandas (what is the index), of `datasets` (features) and of Spark
(its schema) are kept as far as they are true of every file, and extended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.pandas_compat import get_logical_type

EXACT_IN_FLOAT64 = 2**53
"""Up to it, float64 holds every whole number."""
_END = 2**63
_TWO_DAYS = 2 * 86_400 * 10**9
PANDAS, DATASETS, SPARK = b"pandas", b"huggingface", b"org.apache.spark.sql.parquet.row.metadata"
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
_STRINGS = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
_LISTS = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
    *(pa.types.is_list_view, pa.types.is_large_list_view),
)


def storage_of(kind: pa.DataType) -> pa.DataType:
    """The type that holds an extension's values; another type itself."""
    return storage_of(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def is_string(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are strings: of any width, in a dictionary, or below an extension type."""
    kind = storage_of(kind)
    value = storage_of(kind.value_type) if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type arrive as `list`."""
    return any(test(storage_of(kind)) for test in _LISTS)


def readable(kind: pa.DataType) -> pa.DataType:
    """The type with plain values for dictionaries and views inside of others.

    Arrow reads only one row group with such dictionaries, and does not write all structs with views.
    """
    if pa.types.is_struct(kind):
        return pa.struct([_plain(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_field), _plain(kind.item_field), keys_sorted=kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_field), kind.list_size)
    for test, make in ((pa.types.is_list, pa.list_), (pa.types.is_large_list, pa.large_list)):
        if test(kind):
            return make(_plain(kind.value_field))
    return kind


def _plain(field: pa.Field) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else readable(field.type)
    return field.with_type({pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind))


def values_of(array: pa.Array, leaf: Callable[[pa.Array], list[Any]] | None = None) -> list[Any]:
    """Python's values as JSON says them: moments as text, or as numbers where Arrow cannot print them.

    UnicodeDecodeError for a string that is not UTF-8; ValueError for a struct with two fields of one name.

    leaf   what says the values that hold no others, where that is to be something else
    """
    kind = array.type
    if isinstance(kind, (pa.UuidType, pa.Bool8Type)):
        return list(array.to_pylist())
    if isinstance(kind, pa.BaseExtensionType):
        return values_of(array.storage, leaf)
    if pa.types.is_dictionary(kind):
        return values_of(array.dictionary_decode(), leaf)
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        if leaf is None and len(set(names)) < len(names) and array.null_count < len(array):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two fields of a struct are called {twice!r}")
        columns = [values_of(column, leaf) for column in array.flatten()]
        return [
            {name: column[row] for name, column in zip(names, columns, strict=True)} if valid else None
            for row, valid in enumerate(array.is_valid().to_pylist())
        ]
    if pa.types.is_map(kind):
        sides = ([values_of(side, leaf) for side in item.values.flatten()] if item.is_valid else None for item in array)
        return [None if side is None else list(zip(*side, strict=True)) for side in sides]
    if pa.types.is_nested(kind):  # lists, one by one: a cast of list views loses elements (pyarrow 26)
        return [values_of(item.values, leaf) if item.is_valid else None for item in array]
    if leaf is not None:
        return leaf(array)
    if any(test(kind) for test in (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)):
        return _moments(array)
    return list((array.cast(pa.int64()) if pa.types.is_duration(kind) else array).to_pylist())


def _moments(array: pa.Array) -> list[Any]:
    kind = array.type
    bare = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    zone = getattr(kind, "tz", None)
    told = (array.view(pa.timestamp(kind.unit)) if zone else array).cast(pa.string()).to_pylist()
    # Arrow prints a moment with a zone beyond these years, or at the end of 64 bits, as another one, without a word
    unprintable = ("<", "32767-", "-32767-", "-32768-") if zone else ("<",)
    most = _END - _TWO_DAYS if zone else _END
    try:
        # Python has no nanoseconds, and no year 10000
        texts = (array if pa.types.is_time32(kind) else array.cast(pa.string())).to_pylist()
    except pa.ArrowInvalid:  # nobody knows the zone
        texts = bare.to_pylist()
    return [
        number if shown is not None and (shown.startswith(unprintable) or abs(number) > most) else text
        for text, number, shown in zip(texts, bare.to_pylist(), told, strict=True)
    ]


def conform(batch: pa.RecordBatch, schema: pa.Schema, given: Mapping[str, str | None]) -> pa.RecordBatch:
    """A file's rows in the columns of the run; `given` values stand in all rows where it has no column for them.

    ArrowInvalid when a value would change.
    """
    known = {name: position for position, name in enumerate(batch.schema.names)}
    columns = [
        _cast(batch.column(known[field.name]), field.type)
        if field.name in known
        else constant(given.get(field.name), field.type, batch.num_rows)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def constant(value: str | None, kind: pa.DataType, count: int) -> pa.Array:
    """The same value in a number of rows. ArrowInvalid when the type does not hold it."""
    return pa.nulls(count, kind) if value is None else pa.repeat(value, count).cast(kind)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    plain = column.cast(storage_of(column.type)) if isinstance(column.type, pa.BaseExtensionType) else column
    return plain.cast(kind)


def int96_paths(file: pq.ParquetFile) -> tuple[str, ...]:
    """The paths of a file's moments of 96 bits."""
    leaves = map(file.schema.column, range(len(file.schema)))
    return tuple(leaf.path for leaf in leaves if leaf.physical_type == "INT96")


_LACKING = {"INTERVAL": "interval", "ENUM": "enum", "BSON": "BSON"}
_VARIANT = re.compile(r" group field_id=-?\d+ (.+) \(Variant\(")


def lacking_types(file: pq.ParquetFile) -> list[str]:
    """Values of types of Parquet that Arrow lacks: it reads what stores them, and cannot write the types again."""
    found = []
    for leaf in map(file.schema.column, range(len(file.schema))):
        logical, name = leaf.logical_type, _LACKING.get(leaf.converted_type) or _LACKING.get(leaf.logical_type.type)
        if logical.type == "TIME" and '"isAdjustedToUTC":true' in logical.to_json().replace(" ", ""):
            name = "time in UTC"
        found += [f"{leaf.path} ({name})"] if name else []
    return found + [f"{path} (variant)" for path in _VARIANT.findall(str(file.schema))]


def places(fields: Iterable[pa.Field], count: int = 1) -> Iterator[int]:
    """How many values a row takes in each leaf whatever it holds: lists of fixed size keep their places when null."""
    for field in fields:
        kind = storage_of(field.type)
        if pa.types.is_fixed_size_list(kind):
            yield from places([kind.value_field], count * kind.list_size)
        elif pa.types.is_struct(kind):
            yield from places(kind, count)
        else:
            yield from (0 if at else count for at, _ in enumerate(_leaves([field])))


def int96_unit(file: pq.ParquetFile, schema: pa.Schema) -> str:
    """The unit in which the run has a file's moments of 96 bits (see `unify.with_int96_unit`)."""
    if not int96_paths(file):
        return "us"
    finer = {route for route, kind in _leaves(schema) if pa.types.is_timestamp(kind) and kind.unit == "ns"}
    stored = zip(_leaves(file.schema_arrow), map(file.schema.column, range(len(file.schema))), strict=True)
    return "ns" if any(route in finer for (route, _), leaf in stored if leaf.physical_type == "INT96") else "us"


def _leaves(fields: Iterable[pa.Field], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    """Types that hold no others, in the order of Parquet's columns; the way to each by names."""
    for field in fields:
        kind, route = storage_of(field.type), (*above, field.name)
        if pa.types.is_struct(kind):
            yield from _leaves(kind, route)
        elif pa.types.is_map(kind):
            yield from _leaves([kind.key_field.with_name("key"), kind.item_field.with_name("value")], route)
        elif is_list(kind):
            yield from _leaves([kind.value_field.with_name("element")], route)
        else:
            yield route, kind


def row_bytes(batch: pa.RecordBatch) -> Any:
    """Bytes of each row, strings in dictionaries counted wherever they stand: an array of float64."""
    return sum((_value_bytes(column) for column in batch.columns), np.zeros(batch.num_rows))


def _value_bytes(array: pa.Array) -> Any:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _value_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        known = np.append(_value_bytes(array.dictionary), 0.0)  # null: the last
        indices = pc.fill_null(array.indices.cast(pa.int64()), len(known) - 1).to_numpy(zero_copy_only=False)
        return known[np.clip(indices, 0, len(known) - 1)]  # a damaged file may have any
    if pa.types.is_struct(kind):
        return sum((_value_bytes(array.field(at)) for at in range(kind.num_fields)), np.zeros(len(array)))
    if pa.types.is_fixed_size_list(kind):
        start, length = array.offset * kind.list_size, len(array) * kind.list_size
        inner = _value_bytes(array.values.slice(start, length))
        return inner.reshape(len(array), kind.list_size).sum(axis=1) if length else np.zeros(len(array))
    if pa.types.is_map(kind):
        return _summed(_value_bytes(array.keys) + _value_bytes(array.items), array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _summed(_value_bytes(array.values), array)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _value_bytes(array.cast(pa.large_binary()))
    if any(known(kind) for known in _STRINGS):
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.full(len(array), array.nbytes / max(1, len(array)))


def _summed(inner: Any, lists: pa.Array) -> Any:
    ends = lists.offsets.to_numpy()
    until = np.concatenate([[0.0], np.cumsum(inner)])
    return until[ends[1:]] - until[ends[:-1]] + 4.0


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
    stored = [dict(zip(schema.names, schema.types, strict=True)) for schema in schemas]
    same = {field.name for field in common if all(types.get(field.name) == field.type for types in stored)}
    described = [{entry.get("field_name", entry.get("name")): entry for entry in one["columns"]} for one in read]
    entries = [
        entry
        for name, entry in described[0].items()
        if name in same and all(other.get(name) == entry for other in described[1:])
    ]
    # a range, which is no string, counts the rows of its own file: of several files it is true of none
    index, *others = ([name for name in one["index_columns"] if isinstance(name, str)] for one in read)
    index = [name for name in index if name in common.names] if all(other == index for other in others) else []
    return {**read[0], "columns": entries, "index_columns": index}


def extended(
    notes: Mapping[bytes, bytes] | None, schema: pa.Schema, added: Sequence[pa.Field]
) -> dict[bytes, bytes] | None:
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
        {
            "name": field.name,
            "field_name": field.name,
            "pandas_type": get_logical_type(field.type),
            "numpy_type": np.dtype(field.type.to_pandas_dtype()).name,
            "metadata": None,
        }
        for field in added
    ]
    return {**note, "columns": [*note["columns"], *entries]}


def _datasets(note: dict[str, Any], fields: Sequence[pa.Field]) -> dict[str, Any]:
    known = note["info"]["features"]
    more = {one.name: _feature(one.type) for one in fields if one.name not in known}
    return {"info": {"features": {**known, **more}}}


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
    return {**note, "fields": [*note["fields"], *_spark_fields(one for one in fields if one.name not in known)]}


def _spark_fields(fields: Iterable[pa.Field]) -> list[dict[str, Any]]:
    return [{"name": one.name, "type": _spark_type(one.type), "nullable": True, "metadata": {}} for one in fields]


def _spark_type(kind: pa.DataType) -> Any:
    """The type as Spark calls it. KeyError for one that it does not have."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"type": "array", "elementType": _spark_type(kind.value_type), "containsNull": True}
    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": _spark_fields(kind)}
    if pa.types.is_map(kind):
        key, value = _spark_type(kind.key_type), _spark_type(kind.item_type)
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "timestamp" if kind.tz else "timestamp_ntz"
    return _SPARK_TYPES[kind]
