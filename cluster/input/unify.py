"""One schema for all Parquet files of a run.

Columns that nobody compresses need only be unifiable without loss. A column that a file lacks, or has nothing but nulls
in, takes the type of the others, as does every column of a file without rows; strings of every kind (of 32 and 64 bits,
in dictionaries, views) become one; numbers widen; fields of structs are united. Where the types alone do not say that
nothing is lost (whole numbers beside fractions, moments of several units) the files' own statistics must. What cannot
be shown to be lossless is told before the run starts, with the file and the column.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.errors import SourceUnusable
from cluster.input.arrow import EXACT_IN_FLOAT64, constant, is_list, is_string, readable, shared, storage_of
from cluster.input.parquet import Footer, open_parquet
from cluster.input.shards import Source
from cluster.storage.storage import Storage

_MOST_NANOSECONDS = 2**63 // 1000 - 1
"""Microseconds that nanoseconds of 64 bits reach."""
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the types that a column has, with the files that have it."""

    field: pa.Field
    files: list[Source]


def common_schema(files: Sequence[Footer], storage: Storage) -> pa.Schema:
    """The columns of all files, in the order in which they first occur. SourceUnusable when two cannot be one."""
    for file in files:
        _require_distinct(file)
    counted = [file for file in files if any(group.rows for group in file.groups)] or files
    columns: dict[str, dict[pa.DataType, _Kind]] = defaultdict(dict)
    nullable: set[str] = set()
    for file in counted:
        for field in file.schema:
            kind = columns[field.name].setdefault(field.type, _Kind(field, []))
            kind.files.append(file.source)
            nullable.update([field.name] if field.nullable else [])
    stats = _FileStatistics(storage, {name for name, kinds in columns.items() if len(kinds) > 1})
    known = []
    for name, kinds in columns.items():
        field = _united(name, list(kinds.values()), stats)
        lacking = sum(len(kind.files) for kind in kinds.values()) < len(counted)
        known.append(field.with_type(readable(field.type)).with_nullable(name in nullable or lacking))
    return pa.schema(known, metadata=shared([file.schema for file in counted], pa.schema(known)))


def misfit(file: Footer, schema: pa.Schema) -> pa.Field | None:
    """The first column of a file for whose values, whatever they are, a schema has no place; None: it has, for all."""
    _require_distinct(file)
    wanted = {field.name: field for field in schema}
    for field in file.schema:
        kind, known = readable(field.type), wanted.pop(field.name, None)
        fits = known is not None and _common(known.type, kind) == known.type and _widens(kind, known.type)
        if not fits or (field.nullable and not known.nullable):
            return field
    return next((field for field in wanted.values() if not field.nullable), None)


def with_folders(footers: Sequence[Footer]) -> list[Footer]:
    """The files with the columns that their folders hold, where they have none of that name themselves."""
    known: dict[str, pa.DataType] = {}
    for footer in footers:
        rows = any(group.rows for group in footer.groups)
        for name in footer.source.folders:
            position = footer.schema.get_field_index(name)
            kind = footer.schema.field(position).type if position >= 0 else pa.null()
            if rows and not pa.types.is_null(kind):  # what holds nothing decides nothing
                known.setdefault(name, kind)
    whole = []
    for footer in footers:
        added = {one: known.get(one, pa.string()) for one in footer.source.folders if one not in footer.schema.names}
        for name, kind in added.items():
            value = footer.source.folders[name]
            try:
                constant(value, kind, 1)
            except pa.ArrowException:
                raise SourceUnusable(
                    f"{footer.source.path}: the folder says {name}={value!r}, but column {name!r} is {kind} in "
                    "other files; rename the folder, or run the files as jobs of their own"
                ) from None
        schema = pa.schema([*footer.schema, *added.items()], footer.schema.metadata)
        whole.append(replace(footer, schema=schema))
    return whole


def _require_distinct(file: Footer) -> None:
    if twice := [name for name, count in Counter(file.schema.names).items() if count > 1]:
        raise SourceUnusable(f"{file.source.path}: two columns are called {twice[0]!r}; rename one")


# ---- types


def _united(name: str, kinds: Sequence[_Kind], stats: _FileStatistics) -> pa.Field:
    """One field for all types that a column has."""
    if len(kinds) == 1:
        return kinds[0].field
    found = _common(*(kind.field.type for kind in kinds))
    if found is None or not _proven(name, kinds, found, stats):
        kinds = [kind for kind in kinds if not all(stats.is_null(name, file) for file in kind.files)] or kinds[:1]
        found = _common(*(kind.field.type for kind in kinds))
    if found is None or not _proven(name, kinds, found, stats):
        first, other = kinds[0], kinds[1]
        raise SourceUnusable(
            f"{other.files[0].path}: column {name!r} is {other.field.type}, but {first.field.type} in "
            f"{first.files[0].path}, and no type is known to hold both without loss; give the column one type in all "
            "files, or run files of another schema as a job of their own"
        )
    fields = [kind.field for kind in kinds]
    return next((field for field in fields if field.type == found), fields[0]).with_type(found)


class _ApartError(Exception):
    """No type is known to hold the values of both."""


def _common(*types: pa.DataType) -> pa.DataType | None:
    """The type that takes the values of all these types, at least as far as types can tell; None: there is none."""
    with suppress(_ApartError):
        return reduce(_unite, types)
    return None


def _unite(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if _both(one, other, pa.types.is_dictionary):
        index, value = _unite(one.index_type, other.index_type), _unite(one.value_type, other.value_type)
        return pa.dictionary(index, value, ordered=one.ordered and other.ordered)
    if _both(one, other, pa.types.is_map):
        return pa.map_(_field(one.key_field, other.key_field), _field(one.item_field, other.item_field))
    if _both(one, other, pa.types.is_struct):
        return _structs(one, other)
    if _both(one, other, pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list):
        return _lists(one, other)  # not list views: a cast of these loses elements (pyarrow 26)
    return _texts(one, other) or _numbers(one, other)


def _both(one: pa.DataType, other: pa.DataType, *tests: Callable[[pa.DataType], bool]) -> bool:
    return all(any(test(kind) for test in tests) for kind in (one, other))


def _texts(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Strings of every kind in one, and binary values in one; None: they are neither."""
    kinds = (storage_of(one), storage_of(other))
    plain = [storage_of(kind.value_type) if pa.types.is_dictionary(kind) else kind for kind in kinds]
    large = any(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) for kind in plain)
    if _both(*plain, is_string):
        return pa.large_string() if large else pa.string()
    if _both(*plain, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view):
        return pa.large_binary() if large else pa.binary()
    return None


def _numbers(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Numbers and moments as Arrow unites them, but for integers beside fractions: its float32 holds few of them."""
    if any(pa.types.is_integer(a) and pa.types.is_floating(b) for a, b in ((one, other), (other, one))):
        return pa.float64()
    if not any(_both(one, other, test) for test in _NUMBERS):
        raise _ApartError
    try:
        schemas = [pa.schema([("", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        raise _ApartError from None


_NUMBERS = (
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    *(pa.types.is_timestamp, pa.types.is_duration, pa.types.is_time),
)


def _lists(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    field = _field(one.value_field, other.value_field)
    if _both(one, other, pa.types.is_fixed_size_list) and one.list_size == other.list_size:
        return pa.list_(field, one.list_size)
    large = pa.types.is_large_list(one) or pa.types.is_large_list(other)
    return pa.large_list(field) if large else pa.list_(field)


def _structs(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    mine, others = ({field.name: field for field in kind} for kind in (one, other))
    if len(mine) < one.num_fields or len(others) < other.num_fields:
        raise _ApartError  # two fields of one name
    return pa.struct([_field(mine.get(name), others.get(name)) for name in {**mine, **others}])


def _field(one: pa.Field | None, other: pa.Field | None) -> pa.Field:
    if one is None or other is None:
        return (one or other).with_nullable(True)  # type: ignore[union-attr]
    return one.with_type(_unite(one.type, other.type)).with_nullable(one.nullable or other.nullable)


# ---- proofs


def _proven(name: str, kinds: Iterable[_Kind], wanted: pa.DataType, stats: _FileStatistics) -> bool:
    """Whether every value of these files is known to fit the type."""
    return all(
        _widens(kind.field.type, wanted) or all(stats.fits(name, file, wanted) for file in kind.files) for kind in kinds
    )


def _widens(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a type's values fit another whatever they are."""
    if kind == wanted or pa.types.is_null(kind):
        return True
    if pa.types.is_integer(kind):
        small = kind.bit_width <= 32 or (pa.types.is_integer(wanted) and pa.types.is_signed_integer(kind))
        return bool(small or pa.types.is_unsigned_integer(wanted))
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return False
    if is_list(kind) and not isinstance(kind, pa.BaseExtensionType):
        return _widens(kind.value_type, wanted.value_type)
    if pa.types.is_map(kind):
        return _widens(kind.key_type, wanted.key_type) and _widens(kind.item_type, wanted.item_type)
    if pa.types.is_struct(kind):
        return all(_widens(field.type, wanted.field(field.name).type) for field in kind)
    if pa.types.is_dictionary(kind) and pa.types.is_dictionary(wanted):
        return _widens(kind.value_type, wanted.value_type)
    return True


def _is_exact(value: pa.Scalar, wanted: pa.DataType) -> bool:
    if pa.types.is_floating(wanted):
        return bool(abs(value.as_py()) <= EXACT_IN_FLOAT64)
    with suppress(pa.ArrowException, ValueError, OverflowError):
        value.cast(wanted)
        return True
    return False


@dataclass(frozen=True, slots=True)
class _ColumnStatistics:
    """What a footer tells of a column without parts in all row groups: nulls, values, the smallest and the largest."""

    nulls: int
    values: int
    ends: tuple[pa.Scalar, ...]  # of integers and moments; of others nobody asks, and Python does not hold all of them


class _FileStatistics:
    """Footers once more, each read once, of files whose columns `names` have another type than in other files."""

    def __init__(self, storage: Storage, names: Collection[str]) -> None:
        self._storage, self._names = storage, names
        self._known: dict[Source, dict[str, _ColumnStatistics | None]] = {}

    def fits(self, name: str, source: Source, wanted: pa.DataType) -> bool:
        """Whether the smallest and the largest value are told and fit."""
        column = self._of(source).get(name)
        if column is None or (not column.ends and column.nulls < column.values):
            return False
        return all(_is_exact(value, wanted) for value in column.ends)

    def is_null(self, name: str, source: Source) -> bool:
        """Whether a column is known to hold nothing: where the footer does not tell, by its rows, up to a value."""
        column = self._of(source).get(name)
        if column is not None:
            return column.nulls == column.values
        # a damaged page tells nothing, and with dictionaries inside of others no batch of Arrow's spans row groups
        with open_parquet(source, self._storage) as file, suppress(pa.ArrowException, OSError):
            groups = (file.iter_batches(65536, [at], [name], use_threads=False) for at in range(file.num_row_groups))
            return all(batch.column(name).null_count == batch.num_rows for group in groups for batch in group)
        return False

    def _of(self, source: Source) -> dict[str, _ColumnStatistics | None]:
        if source not in self._known:
            with open_parquet(source, self._storage) as file:
                kinds = {field.name: field.type for field in file.schema_arrow}
                self._known[source] = {
                    column.path: _column_statistics(file.metadata, position, kinds[column.path])
                    for position, column in enumerate(map(file.schema.column, range(len(file.schema))))
                    if column.name == column.path in self._names and column.max_repetition_level == 0
                }
        return self._known[source]


def _column_statistics(metadata: Any, position: int, kind: pa.DataType) -> _ColumnStatistics | None:
    """None: statistics are missing for a row group, or are of another type than the column: to look would end us."""
    chunks = [metadata.row_group(group).column(position) for group in range(metadata.num_row_groups)]
    if any(chunk.physical_type != metadata.schema.column(position).physical_type for chunk in chunks):
        return None
    found = [chunk.statistics for chunk in chunks]
    if any(one is None or not one.has_null_count for one in found):
        return None
    nulls, values = sum(one.null_count for one in found), sum(chunk.num_values for chunk in chunks)
    told = [one for one, chunk in zip(found, chunks, strict=True) if one.null_count < chunk.num_values]
    complete = all(one.has_min_max for one in told)
    return _ColumnStatistics(nulls, values, tuple(end for one in told for end in _ends(one, kind)) if complete else ())


def _ends(statistics: Any, kind: pa.DataType) -> list[pa.Scalar]:
    """The smallest and the largest value of a column chunk in the type of its file."""
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return list(pa.array([statistics.min_raw, statistics.max_raw], pa.int64()).view(kind))
    if pa.types.is_integer(kind):
        return list(pa.array([statistics.min, statistics.max], kind))
    return []


# ---- moments of 96 bits (INT96), as Spark, Impala and Hive wrote them


def with_int96_unit(footers: Sequence[Footer], storage: Storage) -> list[Footer]:
    """The footers with their moments of 96 bits in a unit in which none of them changes. SourceUnusable without one.

    They reach from years before Christ to far beyond 9999, by nanoseconds. Arrow's moments of 64 bits hold either that
    reach (microseconds) or those digits (nanoseconds, 1677 to 2262), and turn what lies outside into other dates
    without a word. The footer does not tell which is needed, so the values are looked at.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        needs = list(threads.map(lambda footer: _needs(footer, storage) if footer.int96 else set(), footers))
    finer = next((footer for footer, need in zip(footers, needs, strict=True) if "digits" in need), None)
    wider = next((footer for footer, need in zip(footers, needs, strict=True) if "reach" in need), None)
    if finer is None:
        return list(footers)
    if wider is not None:
        raise SourceUnusable(
            f"{wider.source.path} has dates before 1677 or after 2262 and {finer.source.path} digits below the "
            f"microsecond (INT96 columns {', '.join(sorted({*wider.int96, *finer.int96}))}): no type of Arrow holds "
            "both; write the column as text or INT64, or run the files one by one"
        )
    return [_in_nanoseconds(footer, storage) if footer.int96 else footer for footer in footers]


def _in_nanoseconds(footer: Footer, storage: Storage) -> Footer:
    with open_parquet(footer.source, storage, coerce_int96_timestamp_unit="ns") as file:
        return replace(footer, schema=file.schema_arrow)


def _needs(footer: Footer, storage: Storage) -> set[str]:
    """Whether a file's moments need more reach than nanoseconds have, more digits than microseconds have."""
    needs: set[str] = set()
    fine = open_parquet(footer.source, storage, coerce_int96_timestamp_unit="ns")
    # a damaged page costs the rows in it, not the plan
    with open_parquet(footer.source, storage) as wide, fine, suppress(pa.ArrowException, OSError):
        batches = (file.iter_batches(columns=list(footer.int96), use_threads=False) for file in (wide, fine))
        for one, other in zip(*batches, strict=True):
            for micros, nanos in zip(_moments(one.columns), _moments(other.columns), strict=True):
                inside = np.abs(micros) <= _MOST_NANOSECONDS
                needs |= set() if inside.all() else {"reach"}
                needs |= {"digits"} if (nanos[inside] != micros[inside] * 1000).any() else set()
    return needs


def _moments(arrays: Sequence[pa.Array]) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The moments in columns of any nesting, as numbers, without nulls."""
    for array in arrays:
        kind = array.type
        if pa.types.is_timestamp(kind):
            yield array.drop_null().cast(pa.int64()).to_numpy()
        elif pa.types.is_struct(kind):
            yield from _moments(array.flatten())
        elif pa.types.is_map(kind):
            yield from _moments([array.keys, array.items])
        elif pa.types.is_nested(kind):
            yield from _moments([array.flatten()])
