"""`RowReuse`: rows whose prompt an earlier output holds get their result from there, and no model need see them.

A row is the same when its fingerprint is: content, settings that compress it, model. Only results are taken over; the
row's own columns are those of the new input. For a file that changed, the fingerprints of its earlier parts are read
once and kept as 16 bytes a row, for at most `MAX_ROWS` rows; of a larger file the rows nearest to the shard at hand are
known. Results are fetched for a window of rows at a time, in blocks that can be read alone: row groups of Parquet,
stretches of lines of JSON Lines. So memory is bounded whatever changed, and rows that moved within a file are found. A
part that is gone or damaged is as if it were not there.
"""

from __future__ import annotations

import threading
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import RowError
from cluster.input.columns import RESULTS
from cluster.input.jsonl import split_lines
from cluster.input.rows import BadRow, Row, weight
from cluster.input.shards import Shard
from cluster.logs import event
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.storage.storage import Storage
from lingua.prompt import CompressedPrompt
from lingua.structured.exact import loads

MAX_ROWS = 8 << 20
WINDOW_ROWS = 1024
WINDOW_BYTES = 8 << 20
_ROW_BITS = 32
_UNREADABLE = (FileNotFoundError, ValueError, KeyError, IndexError, TypeError, pa.ArrowException)

Item = Row | BadRow
BLOCK_BYTES = 4 << 20
_NO_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class EarlierPart:
    """A part of an earlier output: where, its size in bytes and SHA-256, its first row in its input, its rows."""

    url: str
    size: int
    sha256: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Earlier:
    """An earlier output for a worker: `plan` without its lists; `parts` in which the rows of an input path may be."""

    output: str
    plan: Plan
    parts: Mapping[str, tuple[EarlierPart, ...]]


class RowReuse:
    """Looks rows up. May be used from several threads."""

    def __init__(self, earlier: Earlier, plan: Plan, storage: Storage) -> None:
        self._earlier, self._plan = earlier, plan
        self._ledger = Ledger(earlier.output, storage.options)
        self._blocks = Blocks(earlier.plan, storage)
        self._last: tuple[tuple[EarlierPart, ...], Index] | None = None
        self._building = threading.Lock()

    def over(self, shard: Shard, items: Iterable[Item]) -> Iterator[Item]:
        """The same rows, those that are known with their earlier result."""
        parts = nearest(self._earlier.parts.get(shard.source.path, ()), shard.first_row)
        if not parts:
            yield from items
            return
        lookup = _Lookup(self._index(parts), self._blocks)
        for window in windows(items):
            known = lookup.results([self._fingerprint(item) for item in window])
            yield from (_with(item, known.get(position)) for position, item in enumerate(window))

    def _fingerprint(self, item: Item) -> str | None:
        if isinstance(item, BadRow):
            return None
        try:
            return self._plan.identity.fingerprint(self._plan.columns.content(item.values))
        except RowError:
            return None

    def _index(self, parts: tuple[EarlierPart, ...]) -> Index:
        with self._building:
            if self._last is None or self._last[0] != parts:
                self._last = None  # before the next one is built: two at most are in memory
                self._last = parts, self._built(parts)
            return self._last[1]

    def _built(self, parts: Iterable[EarlierPart]) -> Index:
        builder = IndexBuilder()
        for part in parts:
            try:
                if self._ledger.checksum(part.url) != part.sha256:
                    raise ValueError("it differs from the checksum in its commit record")
                builder.add(self._blocks.scan(part.url, part.size))
            except _UNREADABLE as error:
                event("not reused", part=part.url, reason=f"{type(error).__name__}: {error}")
        return builder.index()


def nearest(parts: tuple[EarlierPart, ...], row: int) -> tuple[EarlierPart, ...]:
    """The parts whose rows can be indexed: all, or as many as hold `MAX_ROWS`, those nearest to a row first."""
    if sum(part.rows for part in parts) <= MAX_ROWS:
        return parts
    chosen, room = [], MAX_ROWS
    step = max(1, MAX_ROWS // 2)
    middle = row // step * step + step // 2  # the same for many shards, so that an index serves them all
    for part in sorted(parts, key=lambda part: abs(part.first_row - middle)):
        if room > 0:
            chosen.append(part)
        room -= part.rows
    return tuple(sorted(chosen, key=lambda part: part.url))


def windows(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Rows in lists of at most `WINDOW_ROWS` and about `WINDOW_BYTES`."""
    window: list[Item] = []
    size = 0
    for item in items:
        window.append(item)
        size += weight(item)
        if len(window) >= WINDOW_ROWS or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


class Index:
    """Fingerprints → places of rows, as two sorted arrays. A place is a block's number and the row's in it."""

    def __init__(self, keys: Any, places: Any, blocks: Sequence[Block]) -> None:
        self._keys, first = np.unique(np.frombuffer(keys, np.uint64), return_index=True)
        self._places = np.frombuffer(places, np.uint64)[first]
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, fingerprint: str) -> tuple[int, int] | None:
        """Block and row of what is probably this fingerprint: half of it is compared."""
        key = np.uint64(_key(fingerprint))
        position = int(np.searchsorted(self._keys, key))
        if position == len(self._keys) or self._keys[position] != key:
            return None
        place = int(self._places[position])
        return place >> _ROW_BITS, place & ((1 << _ROW_BITS) - 1)


class IndexBuilder:
    """Gathers an `Index`, block by block, of `MAX_ROWS` rows at most."""

    def __init__(self) -> None:
        self._keys, self._places = array("Q"), array("Q")
        self._blocks: list[Block] = []

    def add(self, scanned: Iterable[tuple[Block, list[str]]]) -> None:
        """Take in the blocks of a part."""
        for block, fingerprints in scanned:
            if len(self._keys) >= MAX_ROWS:
                return
            number = len(self._blocks)
            keys = array("Q", map(_key, fingerprints))
            self._blocks.append(block)
            self._keys.extend(keys)
            self._places.extend(number << _ROW_BITS | row for row in range(len(keys)))

    def index(self) -> Index:
        """What was gathered."""
        return Index(self._keys, self._places, self._blocks)


def _key(fingerprint: str) -> int:
    return int(fingerprint[:16], 16)


class _Lookup:
    """Finds the results of a window of rows; the last block stays loaded, since the next window often begins in it."""

    def __init__(self, index: Index, blocks: Blocks) -> None:
        self._index, self._blocks = index, blocks
        self._loaded: tuple[int, LoadedBlock] | None = None

    def results(self, fingerprints: Sequence[str | None]) -> dict[int, CompressedPrompt]:
        """The known results, by position."""
        wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for position, fingerprint in enumerate(fingerprints):
            if fingerprint is not None and (place := self._index.find(fingerprint)) is not None:
                wanted[place[0]].append((position, place[1]))
        found: dict[int, CompressedPrompt] = {}
        for number in sorted(wanted):
            positions, rows = zip(*wanted[number], strict=True)
            for position, results in zip(positions, self._read(number, rows), strict=False):
                if results["fingerprint"] == fingerprints[position]:
                    found[position] = _outcome(results)
        return found

    def _read(self, number: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        try:
            if self._loaded is None or self._loaded[0] != number:
                self._loaded = None
                self._loaded = number, self._blocks.load(self._index.blocks[number])
            return self._loaded[1].results(rows)
        except _UNREADABLE as error:
            event("not reused", part=self._index.blocks[number].url, reason=f"{type(error).__name__}: {error}")
            return []


def _with(item: Item, result: CompressedPrompt | None) -> Item:
    return item if result is None or isinstance(item, BadRow) else replace(item, earlier=result)


def _outcome(results: Mapping[str, Any]) -> CompressedPrompt:
    """A result as an output tells it: what it does not hold (spans, the target) is empty."""
    return CompressedPrompt(
        text=results["compressed_prompt"],
        instruction="",
        context=tuple(results["compressed_context"]),
        question="",
        kept_context=tuple(results["kept_context"]),
        kept_spans=(),
        origin_tokens=results["origin_tokens"],
        compressed_tokens=results["compressed_tokens"],
        target_tokens=results["compressed_tokens"],
        status=results["status"],
        fidelity=results["fidelity"],
    )


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
        for line in split_lines(self._storage.blocks(url, 0, size), _NO_LIMIT):
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
