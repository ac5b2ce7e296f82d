"""Parquet: footers with what their rows weigh in memory, and rows [start, end) in batches of bounded size.

What a row group weighs encoded says little of what it holds: a dictionary writes a string once, however many rows have
it, and so do shared prefixes (DELTA_BYTE_ARRAY). So planning decodes a sample of such columns (`read_footers`), and
reading takes their strings as dictionaries and decodes a few rows at a time. A page that cannot be read makes each
remaining row of the shard a BadRow (``unreadable``), text that is not UTF-8 only its own row (``invalid_utf8``), and so
does a row of more than `MAX_ROW` bytes (``row_too_large``).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import SourceUnusable
from cluster.input.arrow import conform, int96_paths, int96_unit, lacking_types, places, readable, row_bytes, values_of
from cluster.input.columns import Columns
from cluster.input.shards import ArrowRow, BadRow, Row, Shard, Source, arrow_rows, require_unchanged, still_there
from cluster.storage.storage import Storage

BATCH_BYTES = 8 << 20
BATCH_ROWS = 1024
UNSURE_ROWS = 16
"""Rows of a batch where the footer does not bound what a row takes."""
DICTIONARY_BYTES = 1 << 20
DICTIONARY_SHARE = 64 << 10
"""Every batch copies the dictionaries: it has one row more for each share by which one exceeds the usual size."""
PIECE_BYTES = 1 << 20
MAX_ROW = 256 << 20
BUFFER = 1 << 20
FOOTERS_AT_ONCE = 16
SAMPLED_GROUPS = 3
SAMPLED_BYTES = 4 << 20
SAMPLED_ROWS = 1 << 16
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its rows, about how many bytes they hold once decoded (`weight`), and the bytes of its pages."""

    rows: int
    weight: int
    encoded: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What planning needs to know of a file.

    int96    the paths of moments that are stored in 96 bits
    """

    source: Source
    schema: pa.Schema
    groups: tuple[Group, ...]
    int96: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()  # values of types that Arrow lacks


def read_footers(sources: Iterable[Source], storage: Storage) -> list[Footer]:
    """The footers of the Parquet files among these, many read at a time. SourceUnusable when one is not whole."""
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        parquet = (source for source in sources if source.format == "parquet")
        return list(threads.map(lambda source: read_footer(source, storage), parquet))


def read_footer(source: Source, storage: Storage) -> Footer:
    """The footer of one file, with the weights of its row groups."""
    with still_there(source), open_parquet(source, storage) as file:
        leaves = _leaves(file, range(file.metadata.num_row_groups))
        groups = tuple(_groups(file, leaves, _sampled(file, leaves, _Opening(source, storage))))
        return Footer(source, file.schema_arrow, groups, int96_paths(file), tuple(lacking_types(file)))


def open_parquet(source: Source, storage: Storage, **reading: Any) -> pq.ParquetFile:
    """A Parquet file for streaming. SourceUnusable when it is not a whole one.

    Unlike Arrow's default, pages must have their checksums, if any, and moments of 96 bits do not wrap.
    """
    chosen = {"coerce_int96_timestamp_unit": "us", "page_checksum_verification": True, **reading}
    try:
        reader = storage.open(source.path, source.size)
        file = pq.ParquetFile(reader, pre_buffer=False, buffer_size=BUFFER, **chosen)
        if "metadata" not in reading:
            _require_sound_footer(file, source.size)
        return file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = f"not a whole Parquet file ({error}); write it again, or leave it out of the inputs"
        if any(said in str(error) for said in ("no decryption found", "Cannot decrypt")):  # not a name with such a word
            why = "is encrypted Parquet, and no keys are taken here; write it without encryption, or leave it out"
        if "too deeply nested" in str(error):
            why = "a column nests deeper than the 100 levels that readers of Parquet take; write it as JSON text"
        raise SourceUnusable(f"{source.path}: {why}") from None


def _require_sound_footer(file: pq.ParquetFile, size: int) -> None:
    """ArrowException, OSError or UnicodeDecodeError when the footer tells nonsense of a column or of a chunk of one.

    `RowGroupMetaData.column` lets an error of C++ through, which ends the process. Before Arrow reads pages ahead, it
    looks at the same chunks and raises; there are no pages to read here.
    """
    for position in range(len(file.schema)):
        file.schema.column(position).path  # noqa: B018
    pages = _NoPages(size)
    ahead = pq.ParquetFile(pa.PythonFile(pages, mode="r"), metadata=file.metadata, pre_buffer=True)
    try:
        next(ahead.iter_batches(1, range(file.metadata.num_row_groups), use_threads=False), None)
    except OSError:
        if not pages.asked:
            raise


class _NoPages(io.BytesIO):
    """A file of so many bytes that are not there; `asked` once something has tried to read them.

    It raises nothing: Arrow never frees a reader ahead that has met an exception of Python.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self.asked = size, False

    def tell(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        self.asked = True
        return b""


@dataclass(frozen=True, slots=True)
class _Opening:
    """How a file is opened once more. `unit`: that of moments of 96 bits."""

    source: Source
    storage: Storage
    unit: str = "us"

    def reopen(self, **reading: Any) -> pq.ParquetFile:
        return open_parquet(self.source, self.storage, coerce_int96_timestamp_unit=self.unit, **reading)


# ---- what rows weigh


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column of values by its encodings in some row groups."""

    path: str
    width: int | None  # bytes of a value; None: a string
    shared: bool  # some values stand in a dictionary
    prefixes: bool  # some values are stored by what they share with the one before
    places: int  # values that a row takes whatever it holds

    @property
    def hides(self) -> bool:
        """Whether its pages do not tell how much it holds."""
        return self.width is None and (self.shared or self.prefixes)


def _leaves(file: pq.ParquetFile, groups: Iterable[int]) -> list[_Leaf]:
    chosen, leaves = [file.metadata.row_group(index) for index in groups], []
    for position, taken in enumerate(places(file.schema_arrow)):
        column = file.schema.column(position)
        encodings = {name for group in chosen for name in group.column(position).encodings}
        width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(column.physical_type)
        shared = bool(encodings & {"RLE_DICTIONARY", "PLAIN_DICTIONARY"})
        leaves.append(_Leaf(column.path, width, shared, "DELTA_BYTE_ARRAY" in encodings, taken))
    return leaves


def _chunk_bytes(group: Any, position: int, leaf: _Leaf) -> int:
    """Bytes of a column chunk as its footer tells them; Arrow holds 4 of each string, also of one in a dictionary."""
    chunk = group.column(position)
    values = max(chunk.num_values, group.num_rows * leaf.places)
    return int(max(chunk.total_uncompressed_size, values * (leaf.width or 4)))


def _groups(file: pq.ParquetFile, leaves: Sequence[_Leaf], sampled: dict[int, float]) -> Iterator[Group]:
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        told = hidden = 0
        for position, leaf in enumerate(leaves):
            size = _chunk_bytes(group, position, leaf)
            told, hidden = (told, hidden + size) if leaf.hides else (told + size, hidden)
        nearest = min(sampled, key=lambda known: abs(known - index), default=None)
        seen = 0 if nearest is None else int(sampled[nearest] * group.num_rows)
        yield Group(group.num_rows, told + max(hidden, seen), max(1, int(group.total_byte_size)))


def _sampled(file: pq.ParquetFile, leaves: Sequence[_Leaf], opening: _Opening) -> dict[int, float]:
    """For a few row groups: how many bytes a row takes in the columns that hide it, from their first rows."""
    paths, count = [leaf.path for leaf in leaves if leaf.hides], file.metadata.num_row_groups
    found: dict[int, float] = {}
    if not paths or not count:
        return found
    for index in range(0, count, max(1, -(-count // SAMPLED_GROUPS))):
        with suppress(pa.ArrowException, OSError):  # a damaged page costs the rows in it, not the plan
            rows, size = 0, 0.0
            for batch in _batches(file, leaves, [index], opening, paths):
                rows += batch.num_rows
                size += float(row_bytes(batch).sum())
                if size >= SAMPLED_BYTES or rows >= SAMPLED_ROWS:
                    break
            found[index] = size / max(1, rows)
    return found


# ---- reading


def read_parquet(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    schema, given = columns.schema, columns.given(shard.source)
    number = shard.start
    try:
        for batch in read_batches(shard, schema, storage):
            if isinstance(batch, BadRow):
                yield batch
                number += 1
                continue
            for carried in arrow_rows(conform(batch, schema, given)):
                yield _row(number, carried, columns.mapped.all)
                number += 1
    except (pa.ArrowException, OSError) as error:  # the storage's own failures are ClusterErrors already
        require_unchanged(shard.source, storage)
        detail = f"the file is damaged ({error}); rows {number} to {shard.end - 1} cannot be read"
        yield from (BadRow(lost, "unreadable", detail) for lost in range(number, shard.end))


def _row(number: int, carried: ArrowRow, mapped: Sequence[str]) -> Row | BadRow:
    values, at = {}, carried.index
    try:
        for name in mapped:
            column = carried.batch.column(name)
            plain = pa.types.is_string(column.type)
            values[name] = column[at].as_py() if plain else values_of(column.slice(at, 1))[0]
        return Row(number, values, carried)
    except UnicodeDecodeError as error:
        raw = repr(error.object[:1000])
        return BadRow(number, "invalid_utf8", f"a mapped column is not UTF-8 at byte {error.start}", raw)
    except ValueError as error:
        return BadRow(number, "unwritable", f"a mapped column has no form in JSON: {error}")


def read_batches(shard: Shard, schema: pa.Schema, storage: Storage) -> Iterator[pa.RecordBatch | BadRow]:
    """The shard's rows, decoded from the beginning of the row group in which it starts."""
    with open_parquet(shard.source, storage) as file:
        opening = _Opening(shard.source, storage, int96_unit(file, schema))
    with opening.reopen(metadata=file.metadata) as file:
        groups, skip = _touched(file.metadata, shard.start, shard.end)
        leaves, number = _leaves(file, groups), shard.start
        for batch in _batches(file, leaves, groups, opening):
            wanted = batch.slice(skip, shard.end - number)
            skip = max(0, skip - batch.num_rows)
            yield from _decoded(wanted, file.schema_arrow, number)
            number += wanted.num_rows
            if number == shard.end:
                return


def _touched(metadata: Any, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows [start, end), and how many rows of the first one come before `start`."""
    counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    ends = list(accumulate(counts))
    groups = [index for index, last in enumerate(ends) if last > start and last - counts[index] < end]
    return groups, start - (ends[groups[0]] - counts[groups[0]]) if groups else 0


def _batches(
    file: pq.ParquetFile,
    leaves: Sequence[_Leaf],
    groups: Sequence[int],
    opening: _Opening,
    paths: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Some row groups of a file, of all columns or of those at these paths, so few rows at once that memory holds them.

    Strings that stand in dictionaries are read as dictionaries if the types allow it, but not those of long columns
    that a writer has gone on with as plain strings: Arrow would gather all of these in the dictionary. No batch spans
    dictionaries, which Arrow cannot nest.
    """
    held = [file.metadata.row_group(index) for index in groups]
    sizes = [sum(_chunk_bytes(group, at, leaf) for at, leaf in enumerate(leaves)) for group in held]
    small = max(sizes, default=0) <= 2 * BATCH_BYTES
    shared = list(_shared(held, leaves, None if small else opening))
    again, rows = _with_dictionaries(file, [path for path, _ in shared], opening), BATCH_ROWS
    if not small or again is None or any(leaf.prefixes for leaf in leaves):
        excess = 0 if again is None else sum(max(0, size - DICTIONARY_BYTES) for _, size in shared)
        usual = BATCH_BYTES * sum(group.num_rows for group in held) // max(1, sum(sizes))
        rows = max(1, min(UNSURE_ROWS + excess // DICTIONARY_SHARE, BATCH_ROWS, usual))
    with again or opening.reopen(metadata=file.metadata) as reading:
        for index in groups:
            yield from reading.iter_batches(rows, [index], paths, use_threads=False)


def _shared(groups: Sequence[Any], leaves: Sequence[_Leaf], opening: _Opening | None) -> Iterator[tuple[str, int]]:
    """The paths of strings to be read as dictionaries, with the bytes of the largest of these.

    Without an `opening` the groups are small: no dictionary is looked at, and none counts.
    """
    for position, leaf in enumerate(leaves):
        if leaf.hides and not leaf.prefixes:  # Arrow reads prefixes as strings only
            chunks = [group.column(position) for group in groups]
            size = max(_dictionary(chunk, opening) for chunk in chunks) if opening else 0
            # numbers and levels are all the rest, if there is no string
            rest = (chunk.total_uncompressed_size - size - 8 * chunk.num_values for chunk in chunks)
            if opening is None or max(rest) <= BUFFER:
                yield leaf.path, size


def _with_dictionaries(file: pq.ParquetFile, paths: Sequence[str], opening: _Opening) -> pq.ParquetFile | None:
    """The file with these leaves read as dictionaries; None when its types could not be restored from that."""
    again = opening.reopen(metadata=file.metadata, read_dictionary=paths, arrow_extensions_enabled=False)
    try:
        for found, wanted in zip(again.schema_arrow, file.schema_arrow, strict=True):
            _restored(pa.nulls(0, found.type), wanted.type)
    except (pa.ArrowException, ValueError, TypeError):
        again.close()
        return None
    return again


def _dictionary(chunk: Any, opening: _Opening) -> int:
    """Bytes of the dictionary of a column chunk: the second number in its page's header (Thrift, compact)."""
    if not chunk.has_dictionary_page:
        return 0
    start = chunk.dictionary_page_offset
    header = iter(opening.storage.read_range(opening.source.path, start, start + 32))
    size = 0
    for _ in range(2):
        next(header, 0)  # each number comes behind a byte with its field
        size = shift = 0
        for byte in header:
            size, shift = size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
    return size >> 1  # written as twice itself, as it may be negative elsewhere


def _decoded(batch: pa.RecordBatch, schema: pa.Schema, number: int) -> Iterator[pa.RecordBatch | BadRow]:
    """Rows from `number` on in pieces of about `PIECE_BYTES`, in the types of the file; too large ones as BadRows."""
    sizes = row_bytes(batch)
    start, held = 0, 0.0
    for position, size in enumerate(sizes.tolist()):
        if position > start and held + size > PIECE_BYTES:
            yield _piece(batch, start, position, schema)
            start, held = position, 0.0
        held += size
        if size > MAX_ROW:
            detail = f"the row has {int(size):,} bytes, more than {MAX_ROW:,}; split the row"
            yield BadRow(number + position, "row_too_large", detail)
            start, held = position + 1, 0.0
    if start < batch.num_rows:
        yield _piece(batch, start, batch.num_rows, schema)


def _piece(batch: pa.RecordBatch, start: int, end: int, schema: pa.Schema) -> pa.RecordBatch:
    columns = batch.slice(start, end - start).columns
    return pa.RecordBatch.from_arrays(list(map(_restored, columns, schema.types)), schema=schema)


def _restored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column in the type that its file gives it."""
    if column.type == kind:
        return column
    if isinstance(kind, pa.ExtensionType):
        return kind.wrap_array(_restored(column, kind.storage_type))
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):  # no dictionary can be cast to these
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(kind):  # a cast would decode what lies before and behind the slice as well
        column = column.take(pa.array(range(len(column)), pa.int64()))
        column = column if readable(kind) == kind else column.cast(readable(column.type))
    return column.cast(kind)
