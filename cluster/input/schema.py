"""JSON objects as Arrow columns: `infer_schema` plans the columns from a sample, `Fitter` puts rows into them.

JSON says of a value only null, bool, number, string, list or object. A column's type is the narrowest that holds all
its sampled values: integers and fractions together are float64, an object's keys are fields of a struct. Only the place
whose values have no common type is written as text, marked in its field's metadata (`lingua.encoding`):

text   scalars of several types, strings among other values, integers beyond 64 bits, decimals that float64 does not
       hold (`Number`), nothing but nulls: a string stands as it is, anything else in its JSON spelling
json   lists among objects, objects without keys, objects used as maps (see `JsonShape.is_map`), and what nests deeper
       than `MAX_DEPTH`: every value is JSON text

The sample never decides whether a row survives. A later value that does not fit its column exactly leaves it null, and
is kept whole, as JSON text, in the column `UNPLANNED`, as are keys that have no column.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from cluster.errors import RowError
from cluster.input.arrow import EXACT_IN_FLOAT64, is_list, is_string, storage_of
from lingua.structured.exact import dumps

MAX_DEPTH = 48
"""Levels of a Parquet schema, two for each list. Beyond 100 Arrow's reader refuses a file."""
MAP_KEYS = 100
MAP_FILL = 10
"""Objects are maps when they have over `MAP_KEYS` distinct keys, and on average less than 1 in `MAP_FILL` of them."""
MAX_KEYS = 10_000
"""Distinct keys that are told apart at one place; where there are more, the objects count as maps."""
UNPLANNED = "unplanned_columns"
"""The column for what a plan made from a sample did not foresee."""
AS_TEXT = {b"lingua.encoding": b"text"}
AS_JSON = {b"lingua.encoding": b"json"}
AS_REST = {b"lingua.encoding": b"unplanned"}


def infer_schema(documents: Iterable[Mapping[str, Any]], always: Collection[str] = ()) -> pa.Schema:
    """The columns of sampled objects, in the order in which they first occur.

    Where the objects themselves are used as maps, only keys that are in one of `MAP_FILL` objects, or in `always`,
    become columns.
    """
    rows = JsonShape(always=always)
    for document in documents:
        rows.see(document)
    chosen: Iterable[str] = rows.fields
    if rows.is_map:
        chosen = [name for name in rows.fields if name in always or rows.fields[name].met * MAP_FILL >= rows.objects]
    return pa.schema([rows.fields[name].as_field(name) for name in chosen if _spells(name)])


def unplanned_field(prefix: str) -> pa.Field:
    """The column of JSON text for what has no place in the others."""
    return pa.field(prefix + UNPLANNED, pa.string(), metadata=AS_REST)


def unplanned_name(schema: pa.Schema | None) -> str | None:
    """The name of the column for unplanned values, where a schema has one: its last."""
    last = schema.field(len(schema) - 1) if schema else None
    return last.name if last is not None and encoding_of(last) == "unplanned" else None


def encoding_of(field: pa.Field) -> str | None:
    """How values of several types are written in a column of strings: ``text``, ``json``; None: it holds its type."""
    mark = (field.metadata or {}).get(b"lingua.encoding")
    return None if mark is None else bytes(mark).decode()


def json_text(value: Any) -> str:
    """JSON on one line; lone surrogates stay escaped, as nothing else can carry them."""

    def in_words(other: Any) -> str:
        return base64.b64encode(other).decode() if isinstance(other, bytes) else str(other)

    text = dumps(value, default=in_words)
    return text if _is_text(text) else dumps(value, ensure_ascii=True, default=in_words)


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value nests more levels of lists and objects than these."""
    inside = [value]
    for _ in range(levels + 1):
        nested = (one.values() if isinstance(one, dict) else one for one in inside if isinstance(one, (list, dict)))
        inside = [item for items in nested for item in items]
        if not inside:
            return False
    return True


# ---- what a sample shows


@dataclass(slots=True)
class JsonShape:
    """What was seen at one place of the sampled objects; taking in a value costs no more than walking through it."""

    depth: int = 0  # levels of a Parquet schema above it
    always: Collection[str] = ()  # keys that are told apart however many there are
    met: int = 0  # values, nulls among them
    objects: int = 0  # objects among them
    entries: int = 0  # their keys, added up
    crowded: bool = False  # there were more keys than are told apart
    kinds: set[str] = field(default_factory=set)
    low: int = 0
    high: int = 0
    element: JsonShape | None = None
    fields: dict[str, JsonShape] = field(default_factory=dict)

    def see(self, value: object) -> None:
        self.met += 1
        if value is None:
            return
        if isinstance(value, dict):
            self._see_object(value)
        elif isinstance(value, list):
            self._see_list(value)
        else:
            self.kinds.add(type(value).__name__)
            if isinstance(value, int):
                self.low, self.high = min(self.low, value), max(self.high, value)

    def _see_object(self, value: dict[str, Any]) -> None:
        self.objects += 1
        self.entries += len(value)
        if self.depth + 1 > MAX_DEPTH or not all(map(_spells, value)):
            self.kinds.add("deep")
            if self.depth:
                return
        self.kinds.add("dict")
        for name, item in value.items():
            if (shape := self.fields.get(name)) is None:
                if len(self.fields) >= MAX_KEYS and name not in self.always:
                    self.crowded = True
                    continue
                shape = self.fields[name] = JsonShape(self.depth + 1)
            shape.see(item)

    def _see_list(self, values: list[Any]) -> None:
        if self.depth + 2 > MAX_DEPTH:
            self.kinds.add("deep")
            return
        self.kinds.add("list")
        if self.element is None:
            self.element = JsonShape(self.depth + 2)
        for item in values:
            self.element.see(item)

    @property
    def is_map(self) -> bool:
        """Whether objects are used as maps: their keys are data and differ from row to row."""
        sparse = self.entries * MAP_FILL < self.objects * len(self.fields)
        return self.crowded or (len(self.fields) > MAP_KEYS and sparse)

    def as_field(self, name: str) -> pa.Field:
        """The planned column, struct field or list element."""
        kind = self._type()
        if kind is not None:
            return pa.field(name, kind)
        nested = self.kinds & {"dict", "list", "deep"} and "str" not in self.kinds
        return pa.field(name, pa.string(), metadata=AS_JSON if nested else AS_TEXT)

    def _type(self) -> pa.DataType | None:
        """None: what was seen has no common type."""
        match sorted(self.kinds):
            case ["bool"]:
                return pa.bool_()
            case ["str"]:
                return pa.string()
            case ["float"]:
                return pa.float64()
            case ["int"]:
                fits = ((kind, _range_of(kind)) for kind in (pa.int64(), pa.uint64()))
                return next((kind for kind, (low, high) in fits if low <= self.low and self.high <= high), None)
            case ["float", "int"]:
                return pa.float64() if max(-self.low, self.high) <= EXACT_IN_FLOAT64 else None
            case ["list"] if self.element is not None:
                return pa.list_(self.element.as_field("element"))
            case ["dict"] if self.fields and not self.is_map:
                return pa.struct([shape.as_field(name) for name, shape in self.fields.items()])
        return None


def _spells(name: str) -> bool:
    """Whether a key can be a column's name: half of a surrogate pair, or NUL, cannot."""
    return "\0" not in name and _is_text(name)


def _is_text(value: str) -> bool:
    """Whether a string is Unicode: none of it half of a surrogate pair."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- values into types


class _MisfitError(Exception):
    """A value does not fit its column exactly."""


_Fit = Callable[[Any], Any]


class Fitter:
    """Puts JSON objects into planned columns, each value exactly or not at all."""

    def __init__(self, schema: pa.Schema) -> None:
        self._rest = unplanned_name(schema)
        self._fits = {field.name: _fit_of(field) for field in schema if field.name != self._rest}

    def fit(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The object's values by column, absent where null. RowError where no column takes what does not fit."""
        fitted, rest = dict[str, Any](), dict[str, Any]()
        for name, value in document.items():
            try:
                if value is not None:
                    fitted[name] = self._fits[name](value)
            except (KeyError, _MisfitError):
                rest[name] = value
        if rest and self._rest is None:
            raise RowError("schema_mismatch", f"no planned column holds {', '.join(map(repr, rest))} as it is here")
        return {**fitted, self._rest: json_text(rest)} if rest and self._rest else fitted


def batch_of(documents: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Fitted objects as rows of `schema`."""
    columns = [_array([document.get(field.name) for document in documents], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _array(values, kind.storage_type))
    return pa.array(values, kind)


def _fit_of(field: pa.Field) -> _Fit:
    """What gives a JSON value in the type of a field, worked out once for all rows; it raises _MisfitError."""
    kind, encoding = storage_of(field.type), encoding_of(field)
    if encoding is not None:
        return _as_text if encoding == "text" else json_text
    if pa.types.is_struct(kind):
        return partial(_struct, {part.name: _fit_of(part) for part in kind})
    if is_list(kind):
        return partial(_list, _fit_of(kind.value_field), kind.list_size if pa.types.is_fixed_size_list(kind) else None)
    if is_string(kind):
        return _string
    if pa.types.is_boolean(kind):
        return partial(_scalar, (bool,))
    if pa.types.is_integer(kind):
        return partial(_integer, *_range_of(kind))
    if pa.types.is_floating(kind):
        return partial(_float, {16: "e", 32: "f", 64: "d"}[kind.bit_width])
    return partial(_other, field.type)


def _as_text(value: Any) -> str:
    return _string(value) if isinstance(value, str) else json_text(value)


def _scalar(kinds: tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _MisfitError
    return value


def _string(value: Any) -> str:
    if not _is_text(text := str(_scalar((str,), value))):
        raise _MisfitError
    return text


def _integer(low: int, high: int, value: Any) -> int:
    if not low <= (number := int(_scalar((int,), value))) <= high:
        raise _MisfitError
    return number


def _float(code: str, value: Any) -> float:
    """Fractions, and integers that one of this width (`code`, as `struct` calls it) spells exactly."""
    try:
        number = _scalar((int, float), value)
        if number != number or struct.unpack(code, struct.pack(code, number))[0] == number:
            return float(number)
    except OverflowError:
        pass
    raise _MisfitError


def _list(fit: _Fit, size: int | None, value: Any) -> list[Any]:
    if not isinstance(value, list) or size not in (None, len(value)):
        raise _MisfitError
    return [None if item is None else fit(item) for item in value]


def _struct(fits: Mapping[str, _Fit], value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= fits.keys():
        raise _MisfitError
    return {name: None if item is None else fits[name](item) for name, item in value.items()}


def _other(kind: pa.DataType, value: Any) -> Any:
    """A type of Parquet that JSON does not have: nothing but what Arrow itself converts and prints again the same."""
    try:
        if isinstance(value, str) and str(made := _array([value], pa.string()).cast(kind)[0]) == value:
            return made.as_py()
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass
    raise _MisfitError


def _range_of(kind: pa.DataType) -> tuple[int, int]:
    width = kind.bit_width
    return (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if pa.types.is_signed_integer(kind) else (0, 2**width - 1)
