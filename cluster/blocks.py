"""The results in a part by blocks that can be read alone: row groups of Parquet, stretches of lines of JSON Lines.

For looking rows up: `scan` gives every block with the fingerprints of its rows, `load` reads the results of one. The
input columns of a part are not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.columns import RESULTS
from cluster.jsonl import split_lines
from cluster.plan import Plan
from cluster.storage import Storage
from lingua.structured.exact import loads

BLOCK_BYTES = 4 << 20
UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class Block:
    """Row group `start` of a Parquet part, or bytes [start, end) of JSON Lines; `size` is the part's, in bytes."""

    url: str
    size: int
    start: int
    end: int


class Blocks:
    """Reads the parts of one output. ValueError, KeyError or OSError when a file is no such part."""

    def __init__(self, plan: Plan, storage: Storage) -> None:
        self._storage = storage
        self._parquet = plan.output_format == "parquet"
        self._names = {name: plan.columns.result_name(name) for name in RESULTS.names}

    def scan(self, url: str, size: int) -> Iterator[tuple[Block, list[str]]]:
        """Every block of a part with the fingerprints of its rows, in order."""
        return self._scan_parquet(url, size) if self._parquet else self._scan_lines(url, size)

    def load(self, block: Block) -> LoadedBlock:
        """The results of a block's rows."""
        if self._parquet:
            with self._open(block.url, block.size) as file:
                table = file.read_row_group(block.start, columns=list(self._names.values()), use_threads=False)
            return LoadedBlock(table, self._names)
        data = self._storage.read_exactly(block.url, block.start, block.end)
        return LoadedBlock(data.split(b"\n"), self._names)

    def _open(self, url: str, size: int) -> pq.ParquetFile:
        return pq.ParquetFile(self._storage.open(url, size), pre_buffer=False, buffer_size=1 << 20)

    def _scan_parquet(self, url: str, size: int) -> Iterator[tuple[Block, list[str]]]:
        name = self._names["fingerprint"]
        with self._open(url, size) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, columns=[name], use_threads=False)
                yield Block(url, size, group, group + 1), table.column(name).to_pylist()

    def _scan_lines(self, url: str, size: int) -> Iterator[tuple[Block, list[str]]]:
        name, start, end, found = self._names["fingerprint"], 0, 0, list[str]()
        for line in split_lines(self._storage.blocks(url, 0, size), UNLIMITED):
            if not isinstance(line, bytes):
                raise ValueError(f"{url}: a line cannot be read")
            found.append(loads(line.decode())[name])
            end += len(line) + 1
            if end - start >= BLOCK_BYTES:
                yield Block(url, size, start, end), found
                start, found = end, []
        if found:
            yield Block(url, size, start, end), found


class LoadedBlock:
    """The results of the rows of one block: an Arrow table, or lines of JSON."""

    def __init__(self, rows: pa.Table | Sequence[bytes], names: dict[str, str]) -> None:
        self._rows, self._names = rows, names

    def results(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """The results of these rows of the block, by their names without prefix."""
        if isinstance(self._rows, pa.Table):
            found = self._rows.take(pa.array(positions, pa.int64())).to_pylist()
        else:
            found = [loads(self._rows[position].decode()) for position in positions]
        return [{name: row[own] for name, own in self._names.items()} for row in found]
