"""Paths, globs, directories, data sets by name → `Source`s, in a fixed order, with what is checked at read time.

A pattern's files come in the order of their paths, patterns in the order given; a file that two patterns name counts
once. Directories are searched to the bottom; names that begin with ``_`` or ``.`` are left out, so an output folder can
be the next job's input. An expansion without a readable file is a ConfigError, never an empty run.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from fsspec.core import has_magic

from cluster.errors import RetryShard, SourceChanged
from cluster.hub import SCHEME, HubDataset
from cluster.secrets import require_no_credentials
from cluster.shards import Compression, Format, Source
from cluster.storage import LOCAL, Storage, absolute, protocol_of
from lingua.errors import ConfigError

FORMATS: Mapping[str, tuple[Format, Compression]] = {
    ".parquet": ("parquet", None),
    ".jsonl": ("jsonl", None),
    ".ndjson": ("jsonl", None),
    ".json": ("jsonl", None),
    ".jsonl.gz": ("jsonl", "gzip"),
    ".ndjson.gz": ("jsonl", "gzip"),
    ".json.gz": ("jsonl", "gzip"),
    ".jsonl.zst": ("jsonl", "zstd"),
    ".ndjson.zst": ("jsonl", "zstd"),
    ".json.zst": ("jsonl", "zstd"),
}
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "sha256", "checksum", "mtime", "LastModified")


def expand_inputs(inputs: Iterable[str], storage: Storage) -> list[Source]:
    """The files behind paths, globs and directories. ConfigError when an input is nothing or nothing readable."""
    found = {source.path: source for pattern in inputs for source in _expand(pattern, storage)}
    return list(found.values())


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
    return "size-only"


def _expand(pattern: str, storage: Storage) -> list[Source]:
    require_no_credentials("input", pattern)
    if pattern.startswith(SCHEME):
        return _readable(pattern, _from_hub(HubDataset.parse(pattern), storage))
    url = absolute(pattern)
    try:
        info = storage.info(url)
    except FileNotFoundError:
        if not has_magic(url):
            raise ConfigError(f"input = {pattern}: there is no such file or directory") from None
        return _readable(pattern, find_files(url, storage, globbing=True))
    if info["type"] == "directory":
        return _readable(pattern, find_files(url, storage, globbing=False))
    return _readable(pattern, [(url, info)])


def _from_hub(dataset: HubDataset, storage: Storage) -> list[tuple[str, dict[str, Any]]]:
    try:
        if not (files := find_files(dataset.glob, storage, globbing=True)):
            raise dataset.missing(url for url, _ in find_files(dataset.any_split, storage, globbing=True))
    except FileNotFoundError:
        raise dataset.missing([]) from None
    except RetryShard as error:
        raise ConfigError(
            f"input = {dataset}: the hub cannot be reached ({error}); without a network, give files on a disk"
        ) from None
    dataset.require_one(url for url, _ in files)
    return files


def find_files(url: str, storage: Storage, globbing: bool) -> list[tuple[str, dict[str, Any]]]:
    """(URL, info) of all files that a glob or a directory stands for, by path."""
    fs, path = storage.resolve(url)
    found = storage.search(url, globbing)
    root = "" if globbing else path.rstrip("/") + "/"
    return [
        (_url_of(fs, name), info)
        for name, info in sorted(found.items())
        if info["type"] == "file" and (globbing or not _hidden(name.removeprefix(root)))
    ]


def _url_of(fs: Any, path: str) -> str:
    url = str(fs.unstrip_protocol(path))
    return path if protocol_of(url) in LOCAL else url


def _hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _readable(pattern: str, files: list[tuple[str, dict[str, Any]]]) -> list[Source]:
    sources = [source for url, info in files if (source := _source(url, info)) is not None]
    if sources:
        return sources
    if not files:
        what = "no file matches this pattern" if has_magic(pattern) else "there is no file in this directory"
        raise ConfigError(f"input = {pattern}: {what}; check the path")
    seen = ", ".join(sorted(posixpath.basename(url) for url, _ in files)[:5])
    raise ConfigError(
        f"input = {pattern}: found {seen}, and no file with one of the endings {', '.join(FORMATS)}; convert the files"
    )


def _source(url: str, info: Mapping[str, Any]) -> Source | None:
    ending = next((end for end in sorted(FORMATS, key=len, reverse=True) if url.lower().endswith(end)), None)
    if ending is None:
        return None
    form, compression = FORMATS[ending]
    return Source(url, int(info["size"]), version_of(info), form, compression)
