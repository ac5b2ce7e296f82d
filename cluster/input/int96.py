"""Moments of 96 bits (INT96), as Spark, Impala and Hive wrote them: read in a unit in which none of them changes.

They reach from years before Christ to far beyond 9999, by nanoseconds. Arrow's moments of 64 bits hold either that
reach (microseconds) or those digits (nanoseconds, 1677 to 2262), and turn what lies outside into other dates without a
word. The footer does not tell which is needed, so the values are looked at, in the few files that have such columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from cluster.errors import SourceUnusable
from cluster.input.parquet import Footer, open_parquet
from cluster.storage.storage import Storage

AT_ONCE = 8
_MAX = 2**63 // 1000 - 1


@dataclass(frozen=True, slots=True)
class _Extent:
    """What a file's moments need: more reach than nanoseconds have, more digits than microseconds have."""

    reach: bool = False
    digits: bool = False


def settle(footers: Sequence[Footer], storage: Storage) -> list[Footer]:
    """The footers with their moments of 96 bits in the unit that keeps all of them. SourceUnusable when none does."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        seen = list(threads.map(lambda footer: _seen(footer, storage) if footer.int96 else _Extent(), footers))
    finer = next((footer for footer, one in zip(footers, seen, strict=True) if one.digits), None)
    wider = next((footer for footer, one in zip(footers, seen, strict=True) if one.reach), None)
    if finer is None:
        return list(footers)
    if wider is not None:
        raise SourceUnusable(
            f"{wider.source.path} has dates before 1677 or after 2262 and {finer.source.path} digits below the "
            f"microsecond (INT96 columns {', '.join(sorted({*wider.int96, *finer.int96}))}): no type of Arrow holds "
            "both; write the column as text or INT64, or run the files one by one"
        )
    return [replace(footer, schema=_in_nanoseconds(footer, storage)) if footer.int96 else footer for footer in footers]


def _in_nanoseconds(footer: Footer, storage: Storage) -> pa.Schema:
    with open_parquet(footer.source, storage, coerce_int96_timestamp_unit="ns") as file:
        return file.schema_arrow


def _seen(footer: Footer, storage: Storage) -> _Extent:
    reach = digits = False
    wide = open_parquet(footer.source, storage)
    fine = open_parquet(footer.source, storage, coerce_int96_timestamp_unit="ns")
    with closing(wide), closing(fine):
        try:
            batches = (file.iter_batches(columns=list(footer.int96), use_threads=False) for file in (wide, fine))
            for one, other in zip(*batches, strict=True):
                for micros, nanos in zip(_moments(one.columns), _moments(other.columns), strict=True):
                    inside = np.abs(micros) <= _MAX
                    reach |= not bool(inside.all())
                    digits |= bool((nanos[inside] != micros[inside] * 1000).any())
        except (pa.ArrowException, OSError):
            pass  # a damaged page costs the rows in it, not the plan
    return _Extent(reach, digits)


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
