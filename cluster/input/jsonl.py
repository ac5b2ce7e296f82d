"""Reading JSON Lines (plain, gzip, zstd) in blocks, with a fixed outcome for whatever stands in a line.

Lines end with LF; CR before it, byte order marks at the beginning of a line, blank lines and a missing last line end
are harmless. One BadRow each, with its neighbours unharmed: not UTF-8 (``invalid_utf8``), not JSON
(``invalid_json``), JSON but no object (``not_an_object``), longer than `MAX_LINE` (``line_too_long``), of more than
`MAX_VALUES` values (``too_many_values``), nested too deeply (``too_deep``). NaN and Infinity are read as Python writes
them, numbers by `lingua.structured.exact`; of equal keys the last counts.
Compressed data that ends early or is damaged gives every row before the fault and one BadRow for the rest
(``truncated_file``, ``damaged_file``, ``window_too_large``). Zeros between and after compressed members are padding.
UTF-16 and UTF-32 are read as such where the file begins so; such a file is one shard.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import zstandard

from cluster.errors import RowError
from cluster.input.columns import Columns
from cluster.input.schema import Fitter, batch_of, is_deeper
from cluster.input.shards import RAW_LIMIT, BadRow, Compression, Row, Shard, arrow_rows, shortened, windows
from cluster.storage.storage import Storage
from lingua.structured.exact import MAX_VALUES, has_too_many, loads

MAX_LINE = 256 << 20
MAX_NESTING = 400
"""Levels of lists and objects in a row: what Python's `json` can take however deep it is called itself."""
_TOO_DEEP_ROW = f"the row nests more than {MAX_NESTING} levels deep; give the deep value as a string of JSON text"
_JOINED = (
    "a byte order mark stands in the middle of the line, as character {}: files were probably joined of which one did "
    "not end its last line; break the line there"
)
_TOO_FULL_ROW = f"the row holds more than {MAX_VALUES:,} values; give them as a string of JSON text, or split the row"
_FIRST_FEED = 64
"""Bytes given to a decoder at once, doubled while its member goes on: those of a damaged piece are lost."""
_MOST_FEED = 2048
"""They may become 16,000 times as many."""
_PADDING = re.compile(rb"\0*")
_MARKS = re.compile(rb"\A(?:\xef\xbb\xbf)+")
MAX_WINDOW = 1 << 31
"""The largest zstd window that the library can decode, in bytes; that much memory a worker needs for such a file."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNMARKED = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")


def read_jsonl(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    """The lines of a shard: objects as they came, or fitted to the planned columns and many in a batch."""
    schema = None if columns.objects else columns.schema
    fitter, given = None if schema is None else Fitter(schema), columns.given(shard.source)
    rows = (_row(number, line, fitter, given, columns.mapped.all) for number, line in numbered_lines(shard, storage))
    if schema is None:
        yield from rows
        return
    for some in windows(rows):
        fitted = arrow_rows(batch_of([row.carried for row in some if isinstance(row, Row)], schema))
        yield from (replace(row, carried=next(fitted)) if isinstance(row, Row) else row for row in some)


def _row(
    number: int, line: bytes | RowError, fitter: Fitter | None, given: Mapping[str, str | None], mapped: Sequence[str]
) -> Row | BadRow:
    try:
        document = {**given, **parse(line)}
        carried = document if fitter is None else fitter.fit(document)
    except RowError as error:
        content = line.raw if isinstance(line, RowError) else line
        raw = shortened(content[: 4 * RAW_LIMIT].decode("utf-8", "backslashreplace"))
        return BadRow(number, error.reason, error.detail, raw)
    return Row(number, {name: document[name] for name in mapped if name in document}, carried)


@dataclass(slots=True)
class Tally:
    """What was seen of lines: how many hold an object, how many cannot be read and why, and the first of these."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def add(self, path: str, number: int, fault: RowError) -> None:
        self.reasons[fault.reason] += 1
        self.example = self.example or f"{path}, line {number + 1}: {fault.detail}"


def read_objects(shard: Shard, storage: Storage, limit: int, tally: Tally) -> Iterator[dict[str, Any]]:
    """The JSON objects among the first lines of a shard, until `limit` bytes of lines are read."""
    size = 0
    for number, line in numbered_lines(shard, storage):
        try:
            yield {**shard.source.folders, **parse(line)}
            tally.rows += 1
        except RowError as fault:
            tally.add(shard.source.path, number, fault)
        size += len(line) if isinstance(line, bytes) else 0
        if size >= limit:
            return


def numbered_lines(shard: Shard, storage: Storage) -> Iterator[tuple[int, bytes | RowError]]:
    """The lines of a shard that are not blank, each with its number in the file."""
    blocks = decompressed(storage.blocks(shard.source.path, shard.start, shard.end), shard.source.compression)
    for number, line in enumerate(split_lines(blocks if shard.start else as_utf8(blocks)), shard.first_row):
        if isinstance(line, bytes):
            line = _MARKS.sub(b"", line)  # of files that begin with one, put one behind the other
        if isinstance(line, RowError) or line.strip():
            yield number, line


def parse(line: bytes | RowError) -> dict[str, Any]:
    """The JSON object in a line."""
    if isinstance(line, RowError):
        raise line
    if has_too_many(line):
        raise RowError("too_many_values", _TOO_FULL_ROW)
    try:
        document = loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError("invalid_utf8", f"byte {error.start} of the line is not UTF-8; convert the file") from None
    except RecursionError:
        raise RowError("too_deep", _TOO_DEEP_ROW) from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and error.doc.startswith("\ufeff", error.pos):
            raise RowError("invalid_json", _JOINED.format(error.pos + 1)) from None
        remedy = "drop the comma at its end" if line.rstrip().endswith(b",") else "write an object a line (jq -c .)"
        raise RowError("invalid_json", f"the line is not JSON: {error}; {remedy}") from None
    if line.count(b"[") + line.count(b"{") > MAX_NESTING and is_deeper(document, MAX_NESTING):
        raise RowError("too_deep", _TOO_DEEP_ROW)
    if not isinstance(document, dict):
        raise RowError("not_an_object", f"the line holds a JSON {type(document).__name__}, not an object with columns")
    return document


# ---- bytes → lines


def split_lines(blocks: Iterable[bytes], limit: int | None = None) -> Iterator[bytes | RowError]:
    """Lines without ends; over `limit` bytes they are counted, not kept. A fault in `blocks` is the last line."""
    most, line, size = MAX_LINE if limit is None else limit, bytearray(), 0
    try:
        for block in blocks:
            for place, piece in enumerate(block.split(b"\n")):
                if place:
                    yield _ended(line, size, most)
                    line, size = bytearray(), 0
                line += piece
                size += len(piece)
                if size > most:
                    del line[RAW_LIMIT:]
    except RowError as fault:
        yield RowError(fault.reason, fault.detail, bytes(line[:RAW_LIMIT]))
        return
    if size:
        yield _ended(line, size, most)


def _ended(line: bytearray, size: int, most: int) -> bytes | RowError:
    if size > most:
        detail = f"the line has {size} bytes, more than {most}; split the row"
        return RowError("line_too_long", detail, bytes(line[:RAW_LIMIT]))
    return bytes(line).removesuffix(b"\r")


# ---- compressed → bytes, never more than a few blocks at once


def decompressed(blocks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """What compressed members hold, one after the other, with zeros between and behind them, wherever blocks end."""
    if compression is None:
        yield from blocks
        return
    gzip, zstd = compression == "gzip", zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    decoder, feed = None, _FIRST_FEED
    for block in blocks:
        position = 0
        while position < len(block):
            if decoder is None:
                position = _PADDING.match(block, position).end()  # type: ignore[union-attr]
                if position < len(block):
                    decoder, feed = zlib.decompressobj(31) if gzip else zstd.decompressobj(), _FIRST_FEED
                continue
            piece = block[position : position + feed]
            if data := _decode(decoder, piece):
                yield data
            position += len(piece) - len(decoder.unused_data)
            decoder, feed = None if decoder.eof else decoder, min(2 * feed, _MOST_FEED)
    if decoder is not None:
        raise RowError("truncated_file", "the compressed data ends early; rows from here on are lost")


def _decode(decoder: Any, piece: bytes) -> bytes:
    try:
        return bytes(decoder.decompress(piece))
    except (zlib.error, zstandard.ZstdError) as error:
        if "too much memory" in str(error):
            detail = f"zstd with a window over {MAX_WINDOW:,} bytes; write it with --long=31 or less"
            raise RowError("window_too_large", f"{detail}; rows from here on are lost") from None
        raise RowError("damaged_file", f"the compressed data is damaged: {error}; rows from here on are lost") from None


def as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same text in UTF-8 where it begins as UTF-16 or UTF-32 do; half of a surrogate pair stays what it is."""
    head = b""
    try:
        while len(head) < 4 and (block := next(blocks, None)) is not None:
            head += block
    except RowError:
        yield head
        raise
    codec = unicode_codec(head[:64])
    if codec is None:
        yield head
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(codec)("surrogatepass")
    for block in chain([head], blocks):
        yield from _transcoded(decoder, codec, block)
    yield from _transcoded(decoder, codec, b"", final=True)


def _transcoded(decoder: codecs.IncrementalDecoder, codec: str, block: bytes, final: bool = False) -> Iterator[bytes]:
    try:
        yield decoder.decode(block, final).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        yield error.object[: error.start].decode(codec, "surrogatepass").encode("utf-8", "surrogatepass")
        detail = f"the text is not {codec.upper()}: {error.reason}; rows from here on are lost"
        raise RowError("damaged_file", detail) from None


def unicode_codec(head: bytes) -> str | None:
    """The codec of text in UTF-16 or UTF-32, by a byte order mark or by JSON's first signs; None for all else."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    for name in _UNMARKED:
        if head[:4].decode(name, "ignore").lstrip()[:1] == "{" and b"\0" in head[:2]:
            return name
    return None
