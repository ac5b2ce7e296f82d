"""The unit of commitment: `Source` (one input file as it was when planned) and `Shard` (a range of its rows).

A source is known by its path, its size and its version; with another of them it is another file (`require_unchanged`).

Cutting is deterministic: the same files and the same shard size give the same shards with the same names on every
machine. Parquet is cut between row groups, and inside a row group only where it alone is far larger than a shard. JSON
Lines are cut at line starts: a line belongs to the nominal range in which it begins; while the cuts are looked for,
lines are counted, so that every row has its true number in its file. Compressed JSON Lines cannot be entered in the
middle and stay one shard. How the cuts are found is in `cutting`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal
from urllib.parse import unquote

from cluster.errors import SourceChanged
from cluster.storage.storage import Storage
from cluster.storage.stored import STORED, Count

Format = Literal["parquet", "jsonl"]
Compression = Literal["gzip", "zstd"] | None
NAME = re.compile(r"part-\d{5,}-[0-9a-f]{8}")
"""Every shard's name: a number and a digest, so that no input decides where something is written."""
_FOLDER = re.compile(r"([^\W\d]\w*)=(.*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"
UNKNOWN_VERSION = "size-only"
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "sha256", "checksum", "mtime", "LastModified")


@dataclass(frozen=True, slots=True)
class Source:
    """One input file as it was when planned: with another `size` (bytes) or `version` (etag, mtime) it is another."""

    __pydantic_config__ = STORED

    path: str
    size: Count
    version: str
    format: Format
    compression: Compression = None

    @property
    def folders(self) -> dict[str, str | None]:
        """The columns that the file's folders hold for all its rows, as Hive, Spark and pandas write them.

        These are the folders called `name=value` right above the file, one in the other; values are strings.
        """
        *above, _ = self.path.split("/")
        found = takewhile(bool, map(_FOLDER.fullmatch, reversed(above)))
        pairs = [(match[1], _unquoted(match[2])) for match in found if match]
        return {name: None if value == _NULL else value for name, value in reversed(pairs)}


def _unquoted(value: str) -> str:
    """What `%2F` and the like stand for; a value that is not UTF-8 so, as it is spelt: no two become one."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return value


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of a source before it has a name: the fields of `Shard`."""

    source: Source
    start: int
    end: int
    first_row: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of one source: rows [start, end) of Parquet, bytes [start, end) of JSON Lines, all of a compressed file.

    name        deterministic; the stem of the part that holds its rows
    first_row   number in the file (0-based; for JSON Lines the line's) of the first row of the range
    rows        rows in the range; for JSON Lines lines, blank ones included; None where only reading would tell
    """

    __pydantic_config__ = STORED

    name: str
    source: Source
    start: Count
    end: Count
    first_row: Count = 0
    rows: Count | None = None


def named(ranges: list[Range]) -> Iterator[Shard]:
    """Ranges in order, with names made of their position and a digest of what they cover: nothing from a row."""
    for position, piece in enumerate(ranges):
        source = piece.source
        covers = repr((source.path, source.size, source.version, piece.start, piece.end))
        digest = hashlib.sha256(covers.encode()).hexdigest()[:8]
        name = f"part-{position:05d}-{digest}"
        yield Shard(name, source, piece.start, piece.end, piece.first_row, piece.rows)


def require_unchanged(source: Source, storage: Storage) -> None:
    """SourceChanged unless the file is still the one that was planned."""
    try:
        info = storage.info(source.path)
    except FileNotFoundError:
        raise SourceChanged(
            f"{source.path}: planned with {source.size} bytes ({source.version}), and now gone; put it back, or begin "
            "a new output"
        ) from None
    size, version = int(info["size"]), version_of(info)
    if (size, version) != (source.size, source.version):
        raise SourceChanged(
            f"{source.path}: planned with {source.size} bytes ({source.version}), now {size} bytes ({version}); "
            "restore the file, or begin a new output"
        )


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does: the store's etag or the like, else the time of its last change."""
    for key in _VERSIONS:
        if info.get(key):
            return f"{key.lower()}:{str(info[key]).strip(chr(34))}"
    return UNKNOWN_VERSION


@contextmanager
def still_there(source: Source) -> Iterator[None]:
    """SourceChanged where a file that was listed is gone when it is read for the first time."""
    try:
        yield
    except FileNotFoundError:
        raise SourceChanged(
            f"{shown(source.path)}: was there when the inputs were listed, and is gone now; start again"
        ) from None


def shown(path: str) -> str:
    """A name as it can be printed in a line."""
    return path if path.isprintable() else repr(path)[1:-1]
