"""Arrow types for JSON objects: one schema for a whole corpus, found before the run, and rows put into it exactly.

JSON says of a value only null, bool, number, string, list or object; the schema is the narrowest Arrow type that holds
all sampled values of a column (integers and fractions together are float64; an object's keys are united). A column
whose values have no common type, or hold nothing yet (always null, `[]` or `{}`), becomes a string column of JSON text,
marked in the field's metadata. A later row that does not fit is a RowError: nothing is rounded,
dropped or turned into text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from cluster.errors import RowError

AS_JSON = {b"lingua.encoding": b"json"}
_INT64 = range(-(2**63), 2**63)
_EXACT_IN_FLOAT64 = range(-(2**53), 2**53 + 1)
_SMALL = pa.int32()  # while types are being found: integers that may still turn out to stand among fractions
_NUMBERS = frozenset({_SMALL, pa.int64(), pa.float64()})


def infer_schema(documents: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """The schema that holds every given JSON object; columns in the order in which they first occur."""
    types: dict[str, pa.DataType | None] = {}
    for document in documents:
        for name, value in document.items():
            types[name] = _common(types.get(name, pa.null()), _type_of(value))
    return pa.schema([_field(name, found) for name, found in types.items()])


def record_of(document: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """One JSON object as one row of `schema`; absent keys are null. RowError when a value does not fit."""
    unknown = next((name for name in document if name not in schema.names), None)
    if unknown is not None:
        raise RowError("unknown_column", f"column {unknown!r} is not in the planned columns {', '.join(schema.names)}")
    columns = [_column(document.get(field.name), field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def is_json_text(field: pa.Field) -> bool:
    """Whether a column holds JSON text because its values have no common Arrow type."""
    return bool((field.metadata or {}).get(b"lingua.encoding") == b"json")


def is_string(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type arrive as `str`."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type arrive as `list`."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def printable(kind: pa.DataType) -> pa.DataType:
    """The type with moments as strings: Python has no nanoseconds."""
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.string()
    if pa.types.is_duration(kind):
        return pa.int64()
    if is_list(kind):
        return pa.list_(printable(kind.value_type), kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, printable(field.type)) for field in kind])
    return kind


# ---- types of values; None stands for "no common type"


def _type_of(value: object) -> pa.DataType | None:
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return (_SMALL if value in _EXACT_IN_FLOAT64 else pa.int64()) if value in _INT64 else None
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    return _type_of_list(value) if isinstance(value, list) else _type_of_object(value)


def _type_of_list(values: list[Any]) -> pa.DataType | None:
    element: pa.DataType | None = pa.null()
    for value in values:
        element = _common(element, _type_of(value))
    return None if element is None else pa.list_(element)


def _type_of_object(value: Any) -> pa.DataType | None:
    types = {name: _type_of(item) for name, item in value.items()}
    return None if None in types.values() else pa.struct(list(types.items()))


def _common(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None:
        return None
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if one in _NUMBERS and other in _NUMBERS:
        return _common_number({one, other})
    if pa.types.is_list(one) and pa.types.is_list(other):
        element = _common(one.value_type, other.value_type)
        return None if element is None else pa.list_(element)
    return _united(one, other) if pa.types.is_struct(one) and pa.types.is_struct(other) else None


def _common_number(kinds: set[pa.DataType]) -> pa.DataType | None:
    if pa.float64() not in kinds:
        return pa.int64()
    return None if pa.int64() in kinds else pa.float64()


def _united(one: pa.StructType, other: pa.StructType) -> pa.DataType | None:
    types: dict[str, pa.DataType | None] = {field.name: field.type for field in one}
    for field in other:
        types[field.name] = _common(types.get(field.name, pa.null()), field.type)
    return None if None in types.values() else pa.struct(list(types.items()))


def _field(name: str, kind: pa.DataType | None) -> pa.Field:
    if kind is None or _holds_nothing(kind):
        return pa.field(name, pa.string(), metadata=AS_JSON)
    return pa.field(name, _widened(kind))


def _widened(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_widened(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _widened(field.type)) for field in kind])
    return pa.int64() if kind == _SMALL else kind


def _holds_nothing(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _holds_nothing(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_holds_nothing(field.type) for field in kind)
    return bool(pa.types.is_null(kind))


# ---- values into types


def _column(value: object, field: pa.Field) -> pa.Array:
    try:
        if is_json_text(field):
            return pa.array([None if value is None else json.dumps(value, ensure_ascii=False)], pa.string())
        if (fault := _misfit(value, field.type)) is None:
            return pa.array([value], field.type)
    except UnicodeEncodeError:
        raise RowError("invalid_unicode", f"column {field.name!r} holds a lone surrogate: not valid text") from None
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        fault = str(error)
    raise RowError("schema_mismatch", f"column {field.name!r} is planned as {field.type}: {fault}")


def _misfit(value: object, kind: pa.DataType) -> str | None:
    """Why a JSON value does not fit a type exactly, or None. Arrow itself would drop unknown keys of objects."""
    if value is None:
        return None
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return _misfit_object(value, kind)
    if is_list(kind) and isinstance(value, list):
        return next((fault for item in value if (fault := _misfit(item, kind.value_type)) is not None), None)
    return None if _fits_exactly(value, kind) else f"{_short(value)} does not fit"


def _misfit_object(value: dict[str, Any], kind: pa.StructType) -> str | None:
    types = {field.name: field.type for field in kind}
    unknown = next((name for name in value if name not in types), None)
    if unknown is not None:
        return f"key {unknown!r} is not among {', '.join(types)}"
    return next((fault for name, item in value.items() if (fault := _misfit(item, types[name])) is not None), None)


def _fits_exactly(value: object, kind: pa.DataType) -> bool:
    if isinstance(value, bool) or pa.types.is_boolean(kind):
        return isinstance(value, bool) and bool(pa.types.is_boolean(kind))
    if pa.types.is_floating(kind):
        return isinstance(value, float) or (isinstance(value, int) and value in _EXACT_IN_FLOAT64)
    if pa.types.is_integer(kind):
        return isinstance(value, int)
    return isinstance(value, str) and not pa.types.is_nested(kind)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
