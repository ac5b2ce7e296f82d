"""Reading JSON Lines (plain, gzip, zstd) in blocks, with a fixed outcome for whatever stands in a line.

Lines end with LF; CR before it, a byte order mark at the beginning of the file, blank lines and a missing last line end
are harmless. One BadRow each, with its neighbours unharmed: not UTF-8 (``invalid_utf8``), not JSON
(``invalid_json``), JSON but no object (``not_an_object``), longer than `MAX_LINE` (``line_too_long``), not fitting the
planned columns (``schema_mismatch``, ``unknown_column``, ``invalid_unicode``). NaN and Infinity are read as Python
writes them; of equal keys the last counts.
Compressed data that ends early or is damaged gives every row before the fault and one BadRow for the rest
(``truncated_file``, ``damaged_file``).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import zstandard

from cluster.errors import RowError
from cluster.rows import RAW_LIMIT, BadRow, Row, shortened
from cluster.schema import record_of
from cluster.shards import Shard, Source
from cluster.storage import BLOCK, Storage

MAX_LINE = 256 << 20
_FEED = 2048  # bytes given to zstd at once: they may become 16,000 times as many
_MARK = b"\xef\xbb\xbf"


class FaultError(Exception):
    """A line, or all lines from here on, cannot be had."""

    def __init__(self, reason: str, detail: str, raw: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.raw = reason, detail, raw


def read_jsonl(
    shard: Shard, schema: pa.Schema | None, storage: Storage, mapped: Sequence[str]
) -> Iterator[Row | BadRow]:
    """The rows of a shard, streamed; `mapped` names the columns that a Row shows as values."""
    for number, line in numbered_lines(shard, storage):
        yield _row(number, line, schema, mapped)


def _row(number: int, line: bytes | FaultError, schema: pa.Schema | None, mapped: Sequence[str]) -> Row | BadRow:
    try:
        document = parse(line)
        carried = document if schema is None else record_of(document, schema)
    except (FaultError, RowError) as error:
        return BadRow(number, error.reason, error.detail, _raw(line))
    return Row(number, {name: document[name] for name in mapped if name in document}, carried)


def read_objects(shard: Shard, storage: Storage, limit: int) -> Iterator[dict[str, Any]]:
    """The JSON objects among the first lines of a shard, until `limit` bytes of lines are read."""
    size = 0
    for _, line in numbered_lines(shard, storage):
        with suppress(FaultError):
            yield parse(line)
        size += len(line) if isinstance(line, bytes) else 0
        if size >= limit:
            return


def numbered_lines(shard: Shard, storage: Storage) -> Iterator[tuple[int, bytes | FaultError]]:
    """The lines of a shard that are not blank, each with its number in the file."""
    blocks = _decoded(shard.source, storage.blocks(shard.source.path, shard.start, shard.end))
    for number, line in enumerate(split_lines(blocks), shard.first_row):
        if number == 0 and isinstance(line, bytes):
            line = line.removeprefix(_MARK)
        if isinstance(line, FaultError) or line.strip():
            yield number, line


def parse(line: bytes | FaultError) -> dict[str, Any]:
    """The JSON object in a line."""
    if isinstance(line, FaultError):
        raise line
    try:
        document = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FaultError("invalid_utf8", f"byte {error.start} of the line is not UTF-8; convert the file") from None
    except (ValueError, RecursionError) as error:
        raise FaultError("invalid_json", f"the line is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise FaultError(
            "not_an_object", f"the line holds a JSON {type(document).__name__}, not an object with columns"
        )
    return document


# ---- bytes → lines


def split_lines(blocks: Iterable[bytes], limit: int | None = None) -> Iterator[bytes | FaultError]:
    """Lines without ends; over `limit` bytes they are counted, not kept. A fault in `blocks` is the last line."""
    line = _Line(MAX_LINE if limit is None else limit)
    try:
        for block in blocks:
            *ended, rest = block.split(b"\n")
            for piece in ended:
                line.add(piece)
                yield line.take()
            line.add(rest)
    except FaultError as fault:
        yield FaultError(fault.reason, fault.detail, line.beginning)
        return
    if line.size:
        yield line.take()


class _Line:
    """A line that grows block by block, and stops being kept when it grows too long."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._start()

    def _start(self) -> None:
        self.size, self.beginning = 0, b""
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        if len(self.beginning) < RAW_LIMIT:
            self.beginning += piece[:RAW_LIMIT]
        self.size += len(piece)
        if self.size <= self._limit:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def take(self) -> bytes | FaultError:
        size, beginning, whole = self.size, self.beginning, b"".join(self._pieces)
        too_long = size > self._limit
        self._start()
        if too_long:
            detail = f"the line has {size} bytes, more than {self._limit}; split the row"
            return FaultError("line_too_long", detail, beginning)
        return whole.removesuffix(b"\r")


# ---- compressed → bytes, never more than a few blocks at once


def _decoded(source: Source, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if source.compression is None:
        return blocks
    return _gunzip(blocks) if source.compression == "gzip" else _unzstd(blocks)


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder, inside = zlib.decompressobj(31), False
    for block in blocks:
        full = False
        while block or full:
            inside = True
            data = _decode(decoder.decompress, block, BLOCK)
            yield data
            block, full = decoder.unconsumed_tail, len(data) == BLOCK
            if decoder.eof:  # another member may follow; zeros after the last one are padding
                block, full = decoder.unused_data.lstrip(b"\0"), False
                decoder, inside = zlib.decompressobj(31), False
    _require_end(inside)


def _unzstd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    decoder, inside = decompressor.decompressobj(), False
    for block in blocks:
        for start in range(0, len(block), _FEED):
            feed = block[start : start + _FEED]
            while feed:
                inside = True
                yield _decode(decoder.decompress, feed)
                feed = decoder.unused_data
                if decoder.eof:
                    decoder, inside = decompressor.decompressobj(), False
    _require_end(inside)


def _decode(decompress: Any, *arguments: Any) -> bytes:
    try:
        return bytes(decompress(*arguments))
    except (zlib.error, zstandard.ZstdError) as error:
        raise FaultError(
            "damaged_file", f"the compressed data is damaged: {error}; rows from here on are lost"
        ) from None


def _require_end(inside: bool) -> None:
    if inside:
        raise FaultError("truncated_file", "the compressed data ends early; rows from here on are lost")


def _raw(line: bytes | FaultError) -> str:
    content = line.raw if isinstance(line, FaultError) else line
    return shortened(content[: 4 * RAW_LIMIT].decode("utf-8", "backslashreplace"))
