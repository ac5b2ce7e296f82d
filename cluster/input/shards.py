"""What is read: `Source` (one input file as it was when planned), `Shard` (a range of its rows), `Row` and `BadRow`.

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
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from sys import getsizeof
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import unquote

import pyarrow as pa
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cluster.errors import SourceChanged
from cluster.storage.storage import Storage
from lingua.prompt import CompressedPrompt
from lingua.structured.exact import dumps

T = TypeVar("T")
Format = Literal["parquet", "jsonl"]
Compression = Literal["gzip", "zstd"] | None
NAME = re.compile(r"part-\d{5,}-[0-9a-f]{8}")
"""Every shard's name: a number and a digest, so that no input decides where something is written."""
ATTEMPT = re.compile(rf"({NAME.pattern})\.([0-9a-f]{{12}})")
"""An attempt at a shard: its name, and a digest of what the attempt wrote."""
_FOLDER = re.compile(r"([^\W\d]\w*)=(.*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"
RAW_LIMIT = 1 << 20
"""Characters of a rejected row that are kept; file and row number find the rest."""
UNKNOWN_VERSION = "size-only"
WINDOW_ROWS = 1024
WINDOW_BYTES = 8 << 20
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "sha256", "checksum", "mtime", "LastModified")

STORED = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="constants")
"""`__pydantic_config__` of a dataclass that is stored; fields that a later version added are left alone."""
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""A number of things or of bytes."""


def parsed(kind: type[T], data: bytes, what: str) -> T:
    """The stored object in `data`, of exactly the types that its dataclass declares.

    ValueError, telling that it is not `what`, where and why: what only parses would fail later, far from its cause.
    """
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"not {what} ({f'{place}: ' if place else ''}{fault['msg']})") from None
    return found


_adapter = cache(TypeAdapter[Any])


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
    def typed(self) -> bool:
        """Whether the file itself tells the types of its columns; else its rows are objects, and a sample tells."""
        return self.format != "jsonl"

    @property
    def folders(self) -> dict[str, str | None]:
        """The columns that the file's folders hold for all its rows, as Hive, Spark and pandas write them.

        These are the folders called `name=value` right above the file, one in the other; values are strings.
        """
        *above, _ = self.path.split("/")
        found: dict[str, str | None] = {}
        for match in takewhile(bool, map(_FOLDER.fullmatch, reversed(above))):
            name, value = match.groups() if match else ("", "")
            with suppress(UnicodeDecodeError):  # what is not UTF-8 stays as it is spelt: no two values become one
                value = unquote(value, errors="strict")
            found = {name: None if value == _NULL else value, **found}
        return found


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of one source: rows [start, end) of Parquet, bytes [start, end) of JSON Lines, all of a compressed file.

    name        deterministic; the stem of the part that holds its rows
    first_row   number in the file (0-based; for JSON Lines the line's) of the first row of the range
    rows        rows in the range; for JSON Lines lines, blank ones included; None where only reading would tell
    retries     the attempt (`ATTEMPT`) whose rejected rows are tried again: it is those of the range, no others,
                and `rows` counts these
    """

    __pydantic_config__ = STORED

    name: str
    source: Source
    start: Count
    end: Count
    first_row: Count = 0
    rows: Count | None = None
    retries: str | None = None

    @property
    def retried(self) -> str | None:
        """The name of the shard whose rejected rows are tried again."""
        return self.retries and self.retries.partition(".")[0]

    def again(self, position: int, attempt: str, rows: int) -> Shard:
        """A shard, at that position in the plan, of the rows that an attempt at this one rejected."""
        return replace(self, name=_name(position, attempt), rows=rows, retries=attempt)


def named(shards: Iterable[Shard], first: int = 0) -> Iterator[Shard]:
    """Shards in order, with names made of their position, from `first` on, and a digest: nothing from a row."""
    for position, shard in enumerate(shards, first):
        source = shard.source
        covers = repr((source.path, source.size, source.version, shard.start, shard.end))
        yield replace(shard, name=_name(position, covers))


def _name(position: int, covers: str) -> str:
    return f"part-{position:05d}-{hashlib.sha256(covers.encode()).hexdigest()[:8]}"


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


@dataclass(frozen=True, slots=True)
class ArrowRow:
    """One row of a record batch, by its position: it has no arrays of its own. `size`: its share of the bytes."""

    batch: pa.RecordBatch
    index: int
    size: int = 0

    def record(self) -> pa.RecordBatch:
        """A batch of this row alone."""
        return self.batch.slice(self.index, 1)

    def holds(self, name: str | None) -> bool:
        """Whether it has a value in a column, if there is such a one."""
        return name is not None and bool(self.batch.column(name)[self.index].is_valid)


def arrow_rows(batch: pa.RecordBatch) -> Iterator[ArrowRow]:
    """The rows of a batch, each with an equal share of its bytes. A dictionary is the file's and shared by all rows."""
    own = [column.indices if pa.types.is_dictionary(column.type) else column for column in batch.columns]
    size = sum(column.nbytes for column in own) // max(1, batch.num_rows)
    return (ArrowRow(batch, index, size) for index in range(batch.num_rows))


Carried = ArrowRow | dict[str, Any]
"""All input columns of a row, as the parts will hold them: Arrow's for Parquet, a JSON object for JSON Lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row."""

    number: int  # in its file, from 0
    values: Mapping[str, Any]  # the mapped columns (prompt and id) as Python values
    carried: Carried  # all input columns, as the output will hold them
    # what an earlier output holds for the same prompt, so that no model need see it
    earlier: CompressedPrompt | None = None

    def rejected(self, reason: str, detail: str) -> BadRow:
        """This row as a reject; `raw` shows its mapped columns as JSON."""
        try:
            raw = encodable(dumps(self.values, default=str))
        except RecursionError:
            raw = "(nests too deeply to be shown)"
        return BadRow(self.number, reason, detail, shortened(raw))


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not compressed: `reason` is short and stable, `detail` for people, `raw` what stood in the file.

    A line of `_rejects/` is one with its file, `source`.
    """

    __pydantic_config__ = STORED

    number: Annotated[Count, Field(alias="row")]
    reason: str
    detail: str
    raw: str | None = None
    source: str = ""


def encodable(text: str) -> str:
    """The text with lone surrogates as their escapes (``\\ud83d``): no file of text can hold them as they are."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def shortened(raw: str) -> str:
    """At most `RAW_LIMIT` characters of a raw value, with a mark where it was cut."""
    return raw if len(raw) <= RAW_LIMIT else f"{raw[:RAW_LIMIT]}… ({len(raw) - RAW_LIMIT} more characters)"


def weight(item: Row | BadRow) -> int:
    """About how many bytes a row keeps in memory while it waits, the columns that only pass through included."""
    if isinstance(item, BadRow):
        return size_of(item.raw) + _OVERHEAD
    kept = item.carried if isinstance(item.carried, dict) else {}
    size = item.carried.size if isinstance(item.carried, ArrowRow) else size_of(kept)
    size += sum(size_of(value) for name, value in item.values.items() if kept.get(name) is not value)
    return size + (2 * size_of(item.earlier.text) if item.earlier else 0) + _OVERHEAD


_OVERHEAD = 512
"""Bytes that a row takes beside its values."""


def windows(items: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Rows in lists of at most `WINDOW_ROWS` and about `WINDOW_BYTES`."""
    window: list[Row | BadRow] = []
    size = 0
    for item in items:
        window.append(item)
        size += weight(item)
        if len(window) >= WINDOW_ROWS or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def size_of(value: object) -> int:
    """Bytes that a value of Python's takes, with all that it holds."""
    size, waiting = 0, [value]
    while waiting:  # no recursion: values nest as deeply as they like
        one = waiting.pop()
        size += getsizeof(one)
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend([*one, *one.values()])
    return size
