"""Where sources are cut into shards: rows by what they weigh in memory, or line starts found by one pass.

The pass reads every uncompressed JSON Lines byte once, several ranges at a time, and costs a thousandth of what
compressing the same text does; in return shards begin exactly at a line, reading them needs no search, and a rejected
row can be named by its line in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from cluster.input.jsonl import unicode_codec
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
    match source.format:
        case "parquet":
            return list(cut_parquet(footer or read_footer(source, storage), shard_size))
        case "jsonl" if source.compression or not source.size:
            return [Shard("", source, 0, source.size)] if source.size else []
        case "jsonl":
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


def cut_lines(source: Source, shard_size: int, storage: Storage) -> Iterator[Shard]:
    """Byte ranges that begin and end at line starts, with the number of their first line and how many lines they hold.

    Line ends are LF; a CR before it belongs to the line's end. The last line needs none. Text in UTF-16 or UTF-32 is
    one range, whose lines are not counted.
    """
    edges = [*range(0, source.size, shard_size), source.size]
    if len(edges) == 2:  # of many small files none is worth threads of its own
        found = [_line_starts(source, (0, source.size), storage)]
    else:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(lambda nominal: _line_starts(source, nominal, storage), pairwise(edges)))
    if None in found:
        yield Shard("", source, 0, source.size)
        return
    cuts, lines = [], 0  # where the first line of a range begins, and its number
    for first, count in filter(None, found):
        cuts += [(first, lines)] if count else []
        lines += count
    for (start, line), (end, following) in pairwise([*cuts, (source.size, lines)]):
        yield Shard("", source, start, end, first_row=line, rows=following - line)


def _line_starts(source: Source, edges: tuple[int, int], storage: Storage) -> tuple[int, int] | None:
    """Where in a nominal range the first line begins, and how many do; a line begins behind the end of another.

    None: it is the beginning of a file in UTF-16 or UTF-32, whose line ends are not single bytes.
    """
    position, end = max(0, edges[0] - 1), edges[1] - 1
    first, count = 0, int(edges[0] == 0)
    for block in storage.blocks(source.path, position, end):
        if position == 0 and unicode_codec(block[:64]) is not None:
            return None
        if found := block.count(b"\n"):
            first = first if count else position + block.index(b"\n") + 1
            count += found
        position += len(block)
    return first, count
