"""An earlier output of the same settings and model: rows whose prompt it holds get their result from there.

`Previous` is that output as the start of a run finds it, `RowReuse` looks rows up in it while a worker reads them. A
row is the same when its fingerprint is: content, settings that compress it, model. Only results are taken over; the
row's own columns are those of the new input. So a shard that did not change costs its reading and writing, and rows
that moved within a file are found. An output of other settings, or of another model, shares no row with the new one: it
is refused before anything is written, since a run that was meant to be cheap should not turn into a full one unseen.

For a file, the fingerprints of its earlier parts are read once and kept as 16 bytes a row, for at most `MAX_ROWS` rows;
of a larger file the rows nearest to the shard at hand are known. Results are fetched for a window of rows at a time, in
blocks that can be read alone: row groups of Parquet, stretches of lines of JSON Lines. So memory is bounded whatever
changed. A part that is gone or damaged is as if it were not there.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.config import JobConfig
from cluster.errors import PlanConflict, SourceUnusable
from cluster.input.columns import ORDER
from cluster.input.inputs import find_files, literal_part
from cluster.input.parquet import open_parquet
from cluster.input.reader import Item
from cluster.input.shards import UNKNOWN_VERSION, BadRow, Shard, Source, windows
from cluster.output.ledger import Ledger
from cluster.output.plan import LAYOUT_SETTINGS, Identity, Plan
from cluster.output.records import Record, Statistics, standing
from cluster.storage.listing import is_pattern
from cluster.storage.storage import Storage
from lingua.errors import ConfigError, PromptError
from lingua.prompt import CompressedPrompt
from lingua.structured.exact import loads

MAX_ROWS = 8 << 20
BLOCK_BYTES = 4 << 20
_ROW_BITS, _HALF = 32, 16
_UNREADABLE = (FileNotFoundError, ValueError, KeyError, IndexError, TypeError, pa.ArrowException, SourceUnusable)


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


@dataclass(frozen=True)
class Previous:
    ledger: Ledger
    plan: Plan

    def records(self) -> list[Record]:
        """Its commits, those of another hand left out."""
        identity = self.plan.identity.digest()
        return [record for record in self.ledger.records() if record.identity == identity]

    def earlier(self, plan: Plan, committed: Collection[str]) -> Earlier:
        """What the workers need to look up the rows of the shards that are not committed yet.

        A file's rows are looked for in the parts of the file of that path; those of a new path in the parts of all
        files that are gone, so that files may be renamed or written again under other names.
        """
        own: dict[str, list[EarlierPart]] = defaultdict(list)
        for record in self.records():
            url, rows = self.ledger.part_url(self.plan, record.shard), record.rows - record.rejected
            if rows:
                part = EarlierPart(url, record.part_size, record.part_sha256, record.shard.first_row, rows)
                own[record.shard.source.path].append(part)
        wanted = {shard.source.path for shard in plan.shards if shard.name not in committed}
        present = {source.path for source in plan.sources}
        gone = tuple(part for path, parts in own.items() if path not in present for part in parts)
        parts = {path: tuple(own[path]) if path in own else gone for path in sorted(wanted)}
        return Earlier(self.ledger.url, replace(self.plan, sources=(), shards=()), parts)

    def unchanged(self, plan: Plan) -> dict[str, Statistics]:
        """Shard's name → what was committed of the same stretch of the same file: nothing need be read to know it."""
        known: dict[tuple[Source, int, int], Statistics] = defaultdict(Statistics)
        for one in standing(self.records()):
            known[one.shard.source, one.shard.start, one.shard.end] += Statistics.of(one, one.seconds)
        places = {shard.name: (shard.source, shard.start, shard.end) for shard in plan.shards}
        return {name: known[at] for name, at in places.items() if at in known and at[0].version != UNKNOWN_VERSION}


def open_previous(config: JobConfig, model_digest: str) -> Previous | None:
    """The output that ``reuse`` names. ConfigError without one, PlanConflict when it cannot be used."""
    output = config.reuse
    if output is not None and is_pattern(output) and not Storage(config.storage_options).exists(output):
        output = latest(config)
    if output is None:
        return None
    ledger = Ledger(output, config.storage_options)
    if (plan := ledger.plan()) is None:
        raise ConfigError(f"reuse = {output}: has no _plan.json, so it is no output of this job; check the path")
    now = Identity.of(config, model_digest)
    if found := list(plan.identity.differences(now, LAYOUT_SETTINGS)):
        raise PlanConflict(
            f"reuse = {output}: nothing of it can be used: {'; '.join(found[:10])}; "
            "use the same settings, or leave reuse out to compress every row"
        )
    return Previous(ledger, plan)


def latest(config: JobConfig) -> str | None:
    """Of the outputs that the glob ``reuse`` stands for, the last complete one by name; None if there is none yet."""
    storage = Storage(config.storage_options)
    urls = [url for url, _ in find_files(*literal_part(f"{config.reuse}/_stats.json", storage), storage)]
    for url in sorted(urls, reverse=True):
        output = url.rpartition("/")[0]
        if output != config.output and Ledger(output, config.storage_options).statistics().get("complete"):
            return output
    print(f"No complete output among {config.reuse} yet: every row is compressed.")
    return None


class RowReuse:
    """Looks rows up. May be used from several threads."""

    def __init__(self, earlier: Earlier, plan: Plan, storage: Storage) -> None:
        self._earlier, self._plan = earlier, plan
        self._storage, self._ledger = storage, Ledger(earlier.output, storage.options)
        self._last: tuple[tuple[EarlierPart, ...], Index] | None = None
        self._building = threading.Lock()

    def over(self, shard: Shard, items: Iterable[Item]) -> Iterator[Item]:
        """The same rows, those that are known with their earlier result."""
        if not (parts := nearest(self._earlier.parts.get(shard.source.path, ()), shard.first_row)):
            yield from items
            return
        index, blocks = self._index(parts), Blocks(self._earlier.plan, self._storage)
        for window in windows(items):
            known = blocks.known([self._fingerprint(item) for item in window], index)
            for position, item in enumerate(window):
                result = known.get(position)
                yield item if result is None or isinstance(item, BadRow) else replace(item, earlier=result)

    def _fingerprint(self, item: Item) -> str | None:
        if isinstance(item, BadRow):
            return None
        try:
            return self._plan.fingerprint(item.values)
        except PromptError:
            return None

    def _index(self, parts: tuple[EarlierPart, ...]) -> Index:
        with self._building:
            if self._last is None or self._last[0] != parts:
                self._last = None  # before the next one is built: two at most are in memory
                self._last = parts, Index(self._scanned(parts))
            return self._last[1]

    def _scanned(self, parts: Iterable[EarlierPart]) -> Iterator[tuple[Block, list[str]]]:
        for part in parts:
            try:
                if self._ledger.checksum(part.url) != part.sha256:
                    raise ValueError("it differs from the checksum in its commit record")
                yield from Blocks(self._earlier.plan, self._storage).scan(part.url, part.size)
            except _UNREADABLE as error:
                _tell(part.url, error)


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


class Index:
    """Fingerprints → places of rows, as two sorted arrays. A place is a block's number and the row's in it.

    It takes in blocks with the fingerprints of their rows until it holds `MAX_ROWS` rows.
    """

    def __init__(self, scanned: Iterable[tuple[Block, list[str]]]) -> None:
        self.blocks: list[Block] = []
        keys, places = array("Q"), array("Q")
        for block, fingerprints in scanned:
            keys.extend(int(one[:_HALF], 16) for one in fingerprints)
            places.extend(len(self.blocks) << _ROW_BITS | row for row in range(len(fingerprints)))
            self.blocks.append(block)
            if len(keys) >= MAX_ROWS:
                break
        self._keys, first = np.unique(np.frombuffer(keys, np.uint64), return_index=True)
        self._places = np.frombuffer(places, np.uint64)[first]

    def find(self, fingerprint: str) -> tuple[int, int] | None:
        """Block and row of what is probably this fingerprint: half of it is compared."""
        key = np.uint64(int(fingerprint[:_HALF], 16))
        position = int(np.searchsorted(self._keys, key))
        if position == len(self._keys) or self._keys[position] != key:
            return None
        place = int(self._places[position])
        return place >> _ROW_BITS, place & ((1 << _ROW_BITS) - 1)


def _tell(part: str, error: Exception) -> None:
    fields = {"part": part, "reason": f"{type(error).__name__}: {error}"}
    logging.getLogger("lingua").info("not reused", extra={"fields": fields})


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
        order=results.get(ORDER.name),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Row group `start` of a Parquet part, or bytes [start, end) of JSON Lines; `size` is the part's, in bytes."""

    url: str
    size: int
    start: int
    end: int


class Blocks:
    """Reads the parts of one output. The last block stays loaded, since the next rows often begin in it."""

    def __init__(self, plan: Plan, storage: Storage) -> None:
        self._storage = storage
        self._parquet = plan.output_format == "parquet"
        self._names = plan.columns.result_names
        self._loaded: tuple[Block, Any] | None = None

    def scan(self, url: str, size: int) -> Iterator[tuple[Block, list[str]]]:
        """Every block of a part with the fingerprints of its rows, in order.

        ValueError, KeyError or SourceUnusable when a file is no such part.
        """
        name = self._names["fingerprint"]
        if self._parquet:
            with open_parquet(Source(url, size, "", "parquet"), self._storage) as file:
                for group in range(file.metadata.num_row_groups):
                    table = file.read_row_group(group, columns=[name], use_threads=False)
                    yield Block(url, size, group, group + 1), table.column(name).to_pylist()
            return
        start, end, found = 0, 0, list[str]()
        for line in self._storage.lines(url):
            found.append(loads(line.decode())[name])
            end += len(line)
            if end - start >= BLOCK_BYTES:
                yield Block(url, size, start, end), found
                start, found = end, []
        if found:
            yield Block(url, size, start, end), found

    def known(self, fingerprints: Sequence[str | None], index: Index) -> dict[int, CompressedPrompt]:
        """The results that there are of these rows, by their position."""
        wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for position, fingerprint in enumerate(fingerprints):
            if fingerprint is not None and (place := index.find(fingerprint)) is not None:
                wanted[place[0]].append((position, place[1]))
        found: dict[int, CompressedPrompt] = {}
        for number in sorted(wanted):
            positions, rows = zip(*wanted[number], strict=True)
            try:
                read = self._read(index.blocks[number], rows)
            except _UNREADABLE as error:
                _tell(index.blocks[number].url, error)
                continue
            for position, results in zip(positions, read, strict=True):
                if results["fingerprint"] == fingerprints[position]:
                    found[position] = _outcome(results)
        return found

    def _read(self, block: Block, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The results of these rows of a block, by their names without prefix."""
        if self._loaded is None or self._loaded[0] != block:
            self._loaded = None  # before the next one is read: one at most is in memory
            self._loaded = block, self._load(block)
        loaded = self._loaded[1]
        if isinstance(loaded, pa.Table):
            found = loaded.take(pa.array(rows, pa.int64())).to_pylist()
        else:
            found = [loads(loaded[row].decode()) for row in rows]
        return [{name: row[own] for name, own in self._names.items()} for row in found]

    def _load(self, block: Block) -> Any:
        """The rows of a block: an Arrow table, or lines of JSON."""
        if not self._parquet:
            return self._storage.read_exactly(block.url, block.start, block.end).split(b"\n")
        with open_parquet(Source(block.url, block.size, "", "parquet"), self._storage) as file:
            return file.read_row_group(block.start, columns=list(self._names.values()), use_threads=False)
