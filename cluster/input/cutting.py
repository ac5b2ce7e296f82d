"""Where sources are cut into shards: rows by what they weigh in memory, or line starts found by one pass.

The pass reads every uncompressed JSON Lines byte once, several ranges at a time, and costs a thousandth of what
compressing the same text does; in return shards begin exactly at a line, reading them needs no search, and a rejected
row can be named by its line in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from cluster.input.jsonl import encoding_of
from cluster.input.parquet import Footer, read_footer
from cluster.input.shards import Shard, Source, named, still_there
from cluster.storage.storage import Storage

AT_ONCE = 4
MAX_ROWS = 1 << 16
"""Rows of a shard of Parquet: a shard is what is lost when its worker dies."""
MAX_CUTS = 16
"""A row group is cut into so many shards, or more where its pages are that much smaller than what they decode to."""


def plan_shards(
    sources: Iterable[Source], shard_size: int, storage: Storage, footers: Iterable[Footer] = (), first: int = 0
) -> list[Shard]:
    """Cut sources, in order, into shards of about `shard_size` bytes. SourceUnusable when a file cannot be read.

    footers   of the Parquet files among them, as far as they were read already
    first     position of the first shard in its plan
    """
    known = {footer.source: footer for footer in footers}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        cuts = threads.map(lambda source: _cut(source, known.get(source), shard_size, storage), sources)
        return list(named([piece for pieces in cuts for piece in pieces], first))


def _cut(source: Source, footer: Footer | None, shard_size: int, storage: Storage) -> list[Shard]:
    if source.format == "parquet":
        return list(cut_parquet(footer or read_footer(source, storage), shard_size))
    if source.size == 0:
        return []
    if source.compression:
        return [Shard("", source, 0, source.size)]
    with still_there(source):
        return list(cut_lines(source, shard_size, storage))


# ---- Parquet


def cut_parquet(footer: Footer, shard_size: int) -> Iterator[Shard]:
    """Row ranges of about `shard_size` decoded bytes and at most `MAX_ROWS` rows."""
    start = end = size = 0
    for group in footer.groups:
        if end > start and (size + group.weight > shard_size or end - start + group.rows > MAX_ROWS):
            yield _rows(footer.source, start, end)
            start, size = end, 0
        end, size = end + group.rows, size + group.weight
        if size >= 2 * shard_size or end - start > MAX_ROWS:  # a huge row group, in equal row ranges
            wanted = max(-(-group.weight // shard_size), -(-group.rows // MAX_ROWS))
            # not in any number: the pages before its own rows are read for each shard again
            count = int(min(wanted, max(MAX_CUTS, MAX_CUTS * group.weight // group.encoded)))
            edges = [start + (end - start) * index // count for index in range(count + 1)]
            yield from (_rows(footer.source, low, high) for low, high in pairwise(edges) if high > low)
            start, size = end, 0
    if end > start:
        yield _rows(footer.source, start, end)


def _rows(source: Source, start: int, end: int) -> Shard:
    return Shard("", source, start, end, first_row=start, rows=end - start)


# ---- JSON Lines


@dataclass(frozen=True, slots=True)
class _LineEnds:
    """What a nominal byte range holds: where its first and last line ends are (None: no line ends in it), how many.

    wide   it is the beginning of a file in UTF-16 or UTF-32, whose line ends are not single bytes
    """

    ends: int
    first: int | None
    last: int | None
    wide: bool = False


def cut_lines(source: Source, shard_size: int, storage: Storage) -> Iterator[Shard]:
    """Byte ranges that begin and end at line starts, with the number of their first line and how many lines they hold.

    Line ends are LF; a CR before it belongs to the line's end. The last line needs none. Text in UTF-16 or UTF-32 is
    one range, whose lines are not counted.
    """
    nominal = [(start, min(start + shard_size, source.size)) for start in range(0, source.size, shard_size)]
    if len(nominal) == 1:  # of many small files none is worth threads of its own
        counts = [_count(source, nominal[0], storage)]
    else:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            counts = list(threads.map(lambda edges: _count(source, edges, storage), nominal))
    if counts[0].wide:
        yield Shard("", source, 0, source.size)
        return
    for (start, line), (end, next_line) in pairwise(_edges(source.size, [start for start, _ in nominal], counts)):
        if end > start:
            yield Shard("", source, start, end, first_row=line, rows=next_line - line)


def _count(source: Source, edges: tuple[int, int], storage: Storage) -> _LineEnds:
    position, ends = edges[0], 0
    first = last = None
    wide = False
    for block in storage.blocks(source.path, *edges):
        wide = wide or (position == 0 and encoding_of(block[:64]) is not None)
        if (found := block.count(b"\n")) > 0:
            first = position + block.index(b"\n") if first is None else first
            last = position + block.rindex(b"\n")
            ends += found
        position += len(block)
    return _LineEnds(ends, first, last, wide)


def _edges(size: int, starts: Sequence[int], counts: Sequence[_LineEnds]) -> Iterator[tuple[int, int]]:
    """Each nominal start moved to the next line start, with that line's number; the file's end last."""
    following: list[int | None] = [None]  # the first line end in each range or behind it
    for lines in reversed(counts):
        following.insert(0, following[0] if lines.first is None else lines.first)
    passed = 0
    yield 0, 0
    for start, before, line_end in zip(starts[1:], counts, following[1:], strict=False):
        passed += before.ends
        if before.last == start - 1:
            yield start, passed
        elif line_end is not None:
            yield line_end + 1, passed + 1
    unended = counts[-1].last != size - 1
    yield size, passed + counts[-1].ends + unended
