"""What is asked of Arrow types: which hold strings or lists, how Python sees them, and batches put into other types."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq


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
    kind = storage_of(kind)
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)) or any(
        test(kind) for test in (pa.types.is_list_view, pa.types.is_large_list_view)
    )


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a list's elements."""
    return storage_of(kind).value_type


def printable(kind: pa.DataType) -> pa.DataType:
    """The type that is cast to before values become Python's: moments as strings, extensions as what they store."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind if isinstance(kind, (pa.UuidType, pa.Bool8Type)) else printable(kind.storage_type)
    if any(test(kind) for test in (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time64)):
        # Python has no nanoseconds, and no year 10000
        return pa.string()
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_map(kind):
        return pa.map_(printable(kind.key_type), printable(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(printable(kind.value_type), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):  # a cast of list views loses elements (pyarrow 26)
        return pa.large_list(printable(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(printable(field.type)) for field in kind])
    if pa.types.is_dictionary(kind):
        return printable(kind.value_type)
    return kind


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
    if column.null_count == len(column) or pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    plain = column.cast(storage_of(column.type)) if isinstance(column.type, pa.BaseExtensionType) else column
    return plain.cast(kind)


def int96_paths(file: pq.ParquetFile) -> tuple[str, ...]:
    """The paths of a file's moments of 96 bits."""
    return tuple(
        leaf.path for leaf in map(file.schema.column, range(len(file.schema))) if leaf.physical_type == "INT96"
    )


def int96_unit(file: pq.ParquetFile, schema: pa.Schema) -> str:
    """The unit in which the run has a file's moments of 96 bits (see `int96.settle`)."""
    finer = tuple(f"{field.name}." for field in schema if "[ns" in str(field.type))
    return "ns" if any(f"{path}.".startswith(finer) for path in int96_paths(file)) else "us"
