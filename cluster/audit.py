"""What can be said of single rows of a part without a model: whether they carry their input's values, and make sense.

`same_columns` compares rows as the job reads and writes them. `altered` reads a few rows of input and part once more
by other means, so that a mistake of the job's own reader cannot hide itself: pyarrow's plain reader, no schema of ours,
no dictionaries kept, moments as whole numbers, dates of 96 bits in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.arrow import is_string
from cluster.columns import RESULTS
from cluster.decode import OutputRow
from cluster.encode import as_document, record_of
from cluster.rows import Row
from cluster.schema import json_text
from cluster.shards import Shard
from cluster.storage import Storage

SAMPLED_ROWS = 64
"""Rows of a shard that are read by other means."""
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9


def same_columns(row: Row, output: OutputRow) -> bool:
    """Whether the input columns came through unchanged; NaN equals NaN."""
    if isinstance(output.carried, dict):
        return json_text(as_document(row.carried)) == json_text(output.carried)
    found = output.carried.record()
    wanted = record_of(row.carried, found.schema)
    return wanted.equals(found) or (
        wanted.schema.names == found.schema.names
        and all(_alike(*pair, False) for pair in zip(_values(wanted), _values(found), strict=True))
    )


def _values(record: pa.RecordBatch) -> list[Any]:
    return [plain(column)[0] for column in record.columns]


def implausible(results: Mapping[str, Any]) -> Iterator[str]:
    optional = ("rate",) if results.get("origin_tokens") == 0 else ()
    missing = [name for name in RESULTS.names if results.get(name) is None and name not in optional]
    if missing:
        yield f"{missing[0]} is missing"
        return
    origin, compressed = results["origin_tokens"], results["compressed_tokens"]
    if origin and abs(results["rate"] - compressed / origin) > 1e-9:
        yield f"rate = {results['rate']}, but {compressed} of {origin} tokens were kept"
    if not 0 <= results["fidelity"] <= 1:
        yield f"fidelity = {results['fidelity']} is no share between 0 and 1"
    if not 0 <= compressed <= origin:
        yield f"compressed_tokens = {compressed} is more than origin_tokens = {origin}"
    if len(results["compressed_context"]) != len(results["kept_context"]):
        yield "compressed_context and kept_context have different lengths"


def unlike(context: Sequence[str], results: Mapping[str, Any]) -> Iterator[str]:
    """Kept strings that are not what is left of the original's."""
    kept = results["kept_context"]
    if len(set(kept)) < len(kept) or not all(0 <= index < len(context) for index in kept):
        yield f"kept_context = {kept} does not name {len(context)} strings of the original, each at most once"
        return
    for index, text in zip(kept, results["compressed_context"], strict=True):
        if not _left_of(text, context[index]):
            yield f"compressed_context of string {index} is not what is left of it when something is taken out"
            return


def _left_of(text: str, original: str) -> bool:
    """Whether the letters and digits of a text stand in its original in that order; marks of a cut stand between."""
    at = 0
    for letter in filter(str.isalnum, text):
        at = original.find(letter, at) + 1
        if not at:
            return False
    return True


# ---- by other means


def altered(shard: Shard, part: str, storage: Storage) -> Iterator[str]:
    """Where the first rows of a part hold other values than their Parquet input: row, column and both values.

    Shards that begin inside a row group are left out: whatever stands before them would be decoded, too.
    """
    wanted = pq.ParquetFile(storage.open(shard.source.path, shard.source.size), coerce_int96_timestamp_unit="s")
    found = pq.ParquetFile(storage.open(part, int(storage.info(part)["size"])))
    counts = [wanted.metadata.row_group(index).num_rows for index in range(wanted.metadata.num_row_groups)]
    begins = list(accumulate(counts, initial=0))
    if shard.start not in begins[:-1] or not found.metadata.num_row_groups:
        return
    rows, group = min(SAMPLED_ROWS, shard.end - shard.start), begins.index(shard.start)
    seconds = {path.partition(".")[0] for path in _dates_of_96_bits(wanted)}
    for name in wanted.schema_arrow.names:
        if name not in found.schema_arrow.names:
            continue
        try:
            before, after = _head(wanted, name, group, rows), _head(found, name, 0, rows)
        except pa.ArrowNotImplementedError:  # nested dictionaries: the plain reader knows no way
            continue
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            if not _alike(one, other, in_seconds=name in seconds):
                yield f"{shard.first_row + index}: column {name!r} is {other!r:.80}, in the input it is {one!r:.80}"
                return


def _head(file: pq.ParquetFile, name: str, group: int, rows: int) -> list[Any]:
    """A column's first values from a row group on."""
    values = list[Any]()
    groups = list(range(group, file.metadata.num_row_groups))
    for batch in file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False):
        values += plain(batch.column(name))
        if len(values) >= rows:
            break
    return values[:rows]


def _dates_of_96_bits(file: pq.ParquetFile) -> Iterator[str]:
    schema = file.schema
    columns = (schema.column(index) for index in range(len(schema)))
    return (column.path for column in columns if column.physical_type == "INT96")


def plain(array: pa.Array) -> list[Any]:
    """Values of an array as Python's own, whatever the width of their type; moments as nanoseconds."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_struct(kind):
        names, columns = [field.name for field in kind], [plain(column) for column in array.flatten()]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_nested(kind):
        return [plain(item.values) if item.is_valid else None for item in array]
    if pa.types.is_temporal(kind):
        return _moments(array)
    if is_string(kind):  # which nothing forces to be UTF-8 in a file
        texts = array.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="surrogateescape") for text in texts]
    return list(array.to_pylist())


def _moments(array: pa.Array) -> list[int | None]:
    kind = array.type
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_interval(kind):
        return list(array.to_pylist())
    factor = _DAY if pa.types.is_date32(kind) else _NANOSECONDS.get(getattr(kind, "unit", "ms"), 1)
    return [None if value is None else value * factor for value in array.view(width).to_pylist()]


def _alike(one: Any, other: Any, in_seconds: bool) -> bool:
    """Whether two values are the same; a field that a struct lacks is null, NaN is NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one.get(name), other.get(name), in_seconds) for name in {**one, **other})
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_alike(*pair, in_seconds) for pair in zip(one, other, strict=True))
    if in_seconds and isinstance(one, int) and isinstance(other, int):
        return one // 10**9 == other // 10**9
    return bool(one == other or (one != one and other != other))
