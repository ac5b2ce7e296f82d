"""What a file with a JSON name holds, by its first bytes: names lie, and a wrong guess costs every row.

Compression is taken from the content, and Parquet is read as Parquet. What is no JSON Lines at all is told with a
remedy: archives, one JSON array, an object over several lines, CSV, HTML. A file whose lines are merely bad is left to
the reader, which rejects them one by one. UTF-16 and UTF-32 are recognised by a byte order mark or by their zeros.
"""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zstandard

from cluster.errors import RowError
from cluster.input.jsonl import MAX_WINDOW, decompressed, unicode_codec
from cluster.input.shards import Compression, Format
from lingua.structured.exact import loads, loads_first

HEAD = 64 << 10
"""Bytes that are looked at, before and after decompression."""
_SNIFFED_WINDOW = 128 << 20
_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_OTHERS = (
    (b"PK\x03\x04", "is a zip archive (or a spreadsheet); unpack it"),
    (b"BZh", "is compressed by bzip2; unpack it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "is compressed by xz; unpack it, or compress it with gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4; unpack it, or compress it with gzip or zstd"),
    (b"\xff\x06\x00\x00sNaPpY", "is compressed by snappy; unpack it, or compress it with gzip or zstd"),
    (b"Rar!", "is a rar archive; unpack it"),
    (b"ARROW1", "is an Arrow file; write it as Parquet"),
    (b"FEA1", "is a Feather file; write it as Parquet"),
    (b"ORC", "is an ORC file; write it as Parquet"),
    (b"Obj\x01", "is an Avro file; write it as Parquet or JSON Lines"),
    (b"SQLite format 3\x00", "is an SQLite database; export its rows as JSON Lines"),
    (b"\x89HDF\r\n", "is an HDF5 file; write it as Parquet"),
    (b"%PDF-", "is a PDF; extract its text, an object a line"),
    (b"\xd0\xcf\x11\xe0", "is an office document; export its rows as JSON Lines"),
)
_LINES = "only JSON Lines (an object a line) are read"
_SPREAD = f"holds JSON objects spread over several lines; {_LINES}: convert the file, e.g. with jq -c ."


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is. `fault`: why its rows cannot be read, or None; `single`: it holds one JSON object and no more."""

    format: Format = "jsonl"
    compression: Compression = None
    fault: str | None = None
    single: bool = False


def content_of(head: bytes, whole: bool, named: Compression = None) -> Content:
    """From the first bytes of a file under a JSON name, `HEAD` of a large one; `whole`: there are no more.

    What is neither compressed nor text stays what it is `named`: a compressed file with a damaged beginning.
    """
    if head.startswith(b"PAR1"):
        return Content("parquet")
    if head.startswith(_GZIP):
        return _packed("gzip", _unpacked(head, "gzip"), whole)
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and head[:1] in b"PQRSTUVWXYZ[\\]^_"):
        fault, window = _frame_fault(head)
        if fault:
            return Content(compression="zstd", fault=fault)
        return _packed("zstd", _unpacked(head, "zstd") if window <= _SNIFFED_WINDOW else b"", whole)
    fault, single = _read(head, whole)
    return Content(compression=None if fault or _is_text(head) else named, fault=fault, single=single)


def _is_text(head: bytes) -> bool:
    if unicode_codec(head) is not None:
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def _packed(compression: Compression, inner: bytes, whole: bool) -> Content:
    if inner.startswith((b"PAR1", _GZIP, _ZSTD)) or inner[257:262] == b"ustar":
        names = {b"PAR1": "Parquet", _GZIP: "gzip", _ZSTD: "zstd"}
        kind = next((name for sign, name in names.items() if inner.startswith(sign)), "a tar archive")
        return Content(compression=compression, fault=f"is {kind} inside {compression}; unpack it once")
    fault, single = _read(inner, whole and len(inner) < HEAD)
    return Content(
        compression=compression, fault=f"{fault} (it is compressed by {compression})" if fault else None, single=single
    )


# ---- compressed beginnings


def _unpacked(head: bytes, compression: Compression) -> bytes:
    """What compressed data begins with, as far as it can be read: `HEAD` bytes at most."""
    data = b""
    with suppress(RowError):
        for piece in decompressed([head], compression):
            data += piece[:HEAD]
            if len(data) >= HEAD:
                break
    return data[:HEAD]


def _frame_fault(head: bytes) -> tuple[str | None, int]:
    """Why the first zstd frame that holds data cannot be decoded here, and its window in bytes."""
    while head[1:4] == _SKIPPABLE:
        head = head[8 + int.from_bytes(head[4:8], "little") :]
    try:
        parameters = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        too_large = "too much memory" in str(error)
        return (
            f"is zstd with a window over {MAX_WINDOW:,} bytes; write it with --long=31 or less" if too_large else None
        ), 0
    if parameters.dict_id:
        return f"is zstd with dictionary {parameters.dict_id}, which is not here; write it without a dictionary", 0
    return None, int(parameters.window_size)


# ---- text


def _read(head: bytes, whole: bool) -> tuple[str | None, bool]:
    """What keeps text from being JSON Lines, and whether it is a single object."""
    for sign, fault in _OTHERS:
        if head.startswith(sign):
            return fault, False
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it", False
    codec = unicode_codec(head)
    text = head.decode(codec or "utf-8", "replace").lstrip("\ufeff").lstrip()
    lines = [line.lstrip("\ufeff") for line in (text if whole else text.rpartition("\n")[0]).split("\n")]
    lines = [line for line in lines if line.strip()]
    if text.startswith("["):
        return _array_fault(lines), False
    if text.startswith("{"):
        return _object_fault(text, lines, whole)
    if text.startswith("<"):
        return f"is HTML or XML; {_LINES}: extract its text", False
    return _table_fault(lines), False


def _array_fault(lines: list[str]) -> str | None:
    if len(lines) > 1 and _parsed(lines[0]) is not None and lines[1].lstrip().startswith("{"):
        return None  # a bad line among good ones
    if len(lines) > 1 and all(isinstance(_parsed(line), list) for line in lines[:100]):
        return f"holds a JSON array a line; {_LINES}: give the values names, e.g. with jq -c '{{text: .[0]}}'"
    return f"holds one JSON array; {_LINES}: convert the file, e.g. with jq -c '.[]'"


def _object_fault(text: str, lines: list[str], whole: bool) -> tuple[str | None, bool]:
    try:
        _, end = loads_first(text)
    except (ValueError, RecursionError):
        opened = not whole and lines and lines[0].rstrip().endswith(("{", "[", ",", ":"))
        spread = bool(opened) and all(_parsed(line) is None for line in lines[:2])
        return (_SPREAD if spread else None), spread
    if "\n" in text[:end]:
        return _SPREAD, True
    return None, whole and not text[end:].strip()


def _table_fault(lines: list[str]) -> str | None:
    """Two lines with the same number of separators, and no line that is JSON, look like a table."""
    if len(lines) < 2 or any(_parsed(line) is not None for line in lines[:100]):
        return None
    for sign, name in ((",", "CSV"), ("\t", "tab-separated values"), (";", "CSV with semicolons")):
        if lines[0].count(sign) and lines[0].count(sign) <= lines[1].count(sign):
            return f"looks like {name}; {_LINES}: convert the file to Parquet or JSON Lines"
    return None


def _parsed(line: str) -> Any:
    try:
        return loads(line)
    except (ValueError, RecursionError):
        return None
