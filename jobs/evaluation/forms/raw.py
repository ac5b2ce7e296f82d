"""`RowSource`: where rows come from, as the user writes it; `Raw`: a record there, asked for its fields by type."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import ClusterError
from cluster.input.inputs import HUB_SCHEME, HubDataset, find_files, literal_part
from cluster.input.jsonl import decompressed
from cluster.input.shards import Compression
from cluster.storage.listing import is_pattern
from cluster.storage.storage import Storage, absolute
from jobs import require_packages
from lingua.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RowSource:
    """A location, and options behind ``#``: ``LOCATION#name=value&name=value``."""

    location: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> RowSource:
        """From its written form. ConfigError when an option is no ``name=value``."""
        location, _, rest = text.partition("#")
        pairs = [pair.partition("=") for pair in rest.split("&") if pair]
        if bad := next((name for name, equals, _ in pairs if not equals), None):
            raise ConfigError(f"{text}: write #name=value, not #{bad}")
        return cls(location, {name: value for name, _, value in pairs})

    def number(self, name: str) -> int | None:
        """An option that is a number of at least 1; None where it is not given."""
        if (text := self.options.get(name)) is not None and not (text.isdecimal() and int(text) > 0):
            raise ConfigError(f"{self}: {name} = {text!r} is no number of at least 1")
        return None if text is None else int(text)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """An option that is one of a few; None where it is not given."""
        if (text := self.options.get(name)) is not None and text not in allowed:
            raise ConfigError(f"{self}: {name} = {text!r}; it may be {' or '.join(allowed)}")
        return text

    def __str__(self) -> str:
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.location}#{options}" if options else self.location


_LISTS = ("examples", "data", "rows")


@dataclass(frozen=True, slots=True)
class Raw:
    """A record. `place` counts from 0 in its file; `file` is the URL, or the data set's name."""

    file: str
    place: int
    fields: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}, record {self.place + 1}"

    @property
    def stem(self) -> str:
        return PurePosixPath(self.file).name.partition(".")[0]

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A field that is a string, or `default` where it is missing and there is one."""
        if not isinstance(value := self.fields.get(name, default), str):
            raise self.wrong(name, "a string")
        return value

    def texts(self, name: str) -> list[str]:
        """A field that is a list of strings; one string counts as a list of it."""
        value = self.fields.get(name)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of strings")
        return list(value)

    def parts(self, name: str) -> list[Raw]:
        """A field that is a list of objects, each a record of its own that knows where it is."""
        value = self.fields.get(name)
        if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
            raise self.wrong(name, "a list of objects")
        return [Raw(f"{self.where}, {name}", place, item) for place, item in enumerate(value)]

    def object(self, name: str) -> Mapping[str, Any]:
        """A field that is an object; an empty one where it is missing."""
        if not isinstance(value := self.fields.get(name) or {}, Mapping):
            raise self.wrong(name, "an object")
        return value

    def id(self, *names: str) -> str:
        """The first of these fields that is there, else the place."""
        return str(next((self.fields[name] for name in names if name in self), f"{self.stem}-{self.place}"))

    def wrong(self, name: str, wanted: str) -> ConfigError:
        if name not in self:
            return ConfigError(f"{self.where}: field {name!r} is missing; it must be {wanted}")
        return ConfigError(f"{self.where}: field {name!r} must be {wanted}, not {str(self.fields[name])[:60]!r}")


def raw_records(location: str, storage: Storage) -> Iterator[Raw]:
    """All records of a file, a glob of files or a data set of the hub. ConfigError when they cannot be read."""
    if location.startswith(HUB_SCHEME):
        yield from _of_hub(HubDataset.parse(location))
        return
    for url in files_of(location, storage):
        for place, record in enumerate(_decoded(url, read_bytes(url, storage))):
            if not isinstance(record, Mapping):
                raise ConfigError(f"{url}, record {place + 1}: must be an object, not {str(record)[:60]!r}")
            yield Raw(url, place, record)


def read_bytes(url: str, storage: Storage) -> bytes:
    """A whole file, decompressed. ConfigError when it cannot be read."""
    try:
        packed: dict[str, Compression] = {"gz": "gzip", "zst": "zstd"}
        return b"".join(decompressed([storage.read(url)], packed.get(url.rpartition(".")[2])))
    except FileNotFoundError:
        raise ConfigError(f"{url}: there is no such file") from None
    except (OSError, ClusterError) as error:
        raise ConfigError(f"{url}: cannot be read: {type(error).__name__}: {error}") from None


def files_of(location: str, storage: Storage) -> list[str]:
    """The file of this name, or all that a pattern stands for. ConfigError where it stands for none."""
    url = absolute(location)
    if not is_pattern(url) or storage.exists(url):
        return [url]
    if not (found := [file for file, _ in find_files(*literal_part(url, storage), storage)]):
        raise ConfigError(f"{location}: no file is called so")
    return found


def _decoded(url: str, data: bytes) -> Iterator[Any]:
    name, where, kind = url.removesuffix(".gz").removesuffix(".zst"), url, "JSON"
    try:
        if name.endswith(".parquet"):
            kind = "whole Parquet file"
            yield from pq.read_table(io.BytesIO(data)).to_pylist()
        elif name.endswith(".json"):
            yield from _listed(json.loads(data))
        else:
            for number, line in enumerate(data.split(b"\n"), 1):
                where = f"{url}, line {number}"
                yield from [json.loads(line)] if line.strip() else []
    except (ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{where}: is no {kind} ({error})") from None


def _listed(content: Any) -> Sequence[Any]:
    """The records of a JSON file: a list, an object with one under a usual name, or objects by key."""
    if not isinstance(content, Mapping):
        return content if isinstance(content, list) else [content]
    if (named := next((content[name] for name in _LISTS if isinstance(content.get(name), list)), None)) is not None:
        return list(named)
    inside = list(content.values())
    return inside if inside and all(isinstance(value, Mapping) for value in inside) else [content]


def _of_hub(name: HubDataset) -> Iterator[Raw]:
    require_packages("eval", "datasets")
    from datasets import load_dataset  # takes a second, for nothing where files are read

    try:
        rows = load_dataset(name.id, name.config, split=name.split, streaming=True)
        for place, record in enumerate(rows):
            yield Raw(str(name), place, record)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from None
