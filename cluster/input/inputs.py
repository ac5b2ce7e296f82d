"""Paths, globs, directories, data sets by name → `Source`s, in a fixed order, with what is checked at read time.

A pattern's files come in the order of their paths, patterns in the order given; a file that is reached by two names
counts once. A name that is there is that file or folder, whatever signs are in it; else it is a pattern (see
`cluster.storage.listing`). Folders are searched to the bottom. Left out, and told by `InputFiles.left_out`, are: hidden
names, so that an output folder can be the next job's input; the output that is being written, and other outputs inside
a folder that is searched; what has no known ending; JSON files of a single object beside Parquet. An expansion without
a readable file is a ConfigError, a file whose content cannot be read as rows a SourceUnusable, never an empty run.

``dataset:ID:SPLIT`` or ``dataset:ID:CONFIG:SPLIT`` is a data set of the Hugging Face hub. It stands for the Parquet
files into which the hub converts public data sets (branch ``refs/convert/parquet``, a folder a configuration and
split). They are sharded like any other files; nothing is downloaded beforehand. Of large data sets the hub converts
only the beginning (``partial-SPLIT``): these are refused, never cut short in silence. Other files of a repository are
read as ``hf://datasets/ID/…``, with globs.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from cluster.errors import RetryShard, SourceUnusable
from cluster.input.shards import UNKNOWN_VERSION, Compression, Format, Source, shown, still_there, version_of
from cluster.input.sniff import HEAD, Content, content_of
from cluster.storage.credentials import require_no_credentials
from cluster.storage.listing import EVERYTHING, is_pattern
from cluster.storage.storage import LOCAL, Storage, absolute, protocol_of
from lingua.errors import ConfigError

AT_ONCE = 16
ONE_LINE = 16 << 20
"""A JSON file whose beginning is a line without end is looked into so far, to tell data from a single object."""
_PACKED: Mapping[str, Compression] = {"": None, ".gz": "gzip", ".zst": "zstd"}
FORMATS: Mapping[str, tuple[Format, Compression]] = {
    ".parquet": ("parquet", None),
    **{f"{name}{end}": ("jsonl", _PACKED[end]) for end in _PACKED for name in (".jsonl", ".ndjson", ".json")},
}
_METADATA = frozenset(
    {
        *("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json", "vocab.json"),
        *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "metadata.json", "manifest.json", "schema.json", "croissant.json", "package.json"),
    }
)
"""What lies beside data and describes it."""
OUTPUTS = "files of outputs of this job"
HUB_SCHEME = "dataset:"
HUB_BRANCH = "refs/convert/parquet"
_HUB_NAME = re.compile(r"[\w.-]+")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class InputFiles(NamedTuple):
    """The files of a run, and in words what the inputs hold beside them (empty: nothing)."""

    sources: tuple[Source, ...]
    left_out: str = ""


def list_inputs(
    inputs: Iterable[str], storage: Storage, output: str | None = None, known: Iterable[Source] = ()
) -> InputFiles:
    """The files behind paths, globs and directories, without those in `output`; `known` ones are not looked into again.

    ConfigError when an input is nothing, nothing readable, or inside the output; SourceUnusable when a file is not what
    its name says.
    """
    found = _Found(storage, output, {source.path: source for source in known})
    for pattern in inputs:
        found.add(pattern)
    return InputFiles(tuple(found.sources.values()), found.left_out())


@dataclass
class _Found:
    """What was found so far: `sources` by identity, and names of what was left out by its reason."""

    storage: Storage
    output: str | None
    known: Mapping[str, Source]
    sources: dict[str, Source] = field(default_factory=dict)
    aside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, pattern: str) -> None:
        require_no_credentials("input", pattern)
        if pattern.startswith(HUB_SCHEME):
            self._take(pattern, HubDataset.parse(pattern).files(self.storage))
            return
        url = absolute(pattern)
        if is_pattern(url.partition("://")[2].partition("/")[0]):
            raise ConfigError(f"input = {pattern}: a pattern cannot stand for buckets; name the bucket")
        try:
            info = self.storage.info(url)
        except FileNotFoundError:
            if not is_pattern(url):
                dangling = protocol_of(url) in LOCAL and os.path.islink(url)
                what = "is a link that leads nowhere" if dangling else "there is no such file or directory"
                raise ConfigError(f"input = {pattern}: {what}") from None
            self._search(pattern, *literal_part(url, self.storage))
            return
        if info["type"] == "directory":
            self._search(pattern, url, EVERYTHING)
        elif info["type"] == "file":
            self._require_apart(pattern, url)
            self._take(pattern, [(url, info)], named=True)
        else:
            raise ConfigError(f"input = {pattern}: is a pipe, a socket or a device; write its rows to a file first")

    def left_out(self) -> str:
        """In words: how many of each kind, and the first of their names."""
        return "; ".join(
            f"{kind}: {len(names):,} ({', '.join(map(shown, names[:3]))}{', …' if len(names) > 3 else ''})"
            for kind, names in self.aside.items()
            if names
        )

    def _search(self, pattern: str, folder: str, names: Sequence[str]) -> None:
        self._require_apart(pattern, folder)
        files = []
        for url, info in find_files(folder, names, self.storage, self.aside):
            if self._in_output(_identity(url, info)):
                self.aside[OUTPUTS].append(posixpath.basename(url))
            else:
                files.append((url, info))
        self._take(pattern, files)

    def _take(self, pattern: str, files: Sequence[tuple[str, Mapping[str, Any]]], named: bool = False) -> None:
        """Sources of those files that have a known ending; `named`: the input is that file."""
        readable = [(url, info, form) for url, info in files if (form := _by_name(url))]
        if not named and readable:
            others = [posixpath.basename(url) for url, _ in files if _by_name(url) is None]
            self.aside["files with another ending"] += others
        with ThreadPoolExecutor(AT_ONCE) as threads:
            looked = list(threads.map(lambda file: self._look(*file), readable))
        beside = any(source.typed for source, _ in looked)
        taken = 0
        for (source, content), (url, info, _) in zip(looked, readable, strict=True):
            name = posixpath.basename(url).lower()
            single = content.single and name.endswith(".json")  # one object: what describes other files
            if not named and single and (beside or name in _METADATA):
                self.aside["files of metadata"].append(posixpath.basename(url))
                continue
            if content.fault:
                raise SourceUnusable(f"{shown(url)}: {content.fault}")
            taken += 1
            same = info.get("inode") or _identity(url, info)
            same = f"{same}\0{source.folders}"  # in folders with other values its rows are others
            earlier = self.sources.setdefault(same, source)
            if earlier.path != url:
                self.aside["other names of the same files"].append(posixpath.basename(url))
        if not taken:
            raise self._nothing(pattern, [url for url, _ in files])

    def _look(self, url: str, info: Mapping[str, Any], form: tuple[Format, Compression]) -> tuple[Source, Content]:
        """The source, from what the file holds where its name says JSON."""
        source = Source(url, int(info["size"]), version_of(info), *form)
        before = self.known.get(url)
        if before and (before.size, before.version) == (source.size, source.version) != (source.size, UNKNOWN_VERSION):
            return before, Content(before.format, before.compression)
        if source.format != "jsonl" or not source.size:
            return source, Content(*form)
        with still_there(source):
            head = self.storage.read_range(url, 0, min(source.size, HEAD))
            if source.size > len(head) and url.lower().endswith(".json") and b"\n" not in head:  # a row, or all of it
                head = self.storage.read_range(url, 0, min(source.size, ONE_LINE))
        content = content_of(head, source.size <= len(head), source.compression)
        return replace(source, format=content.format, compression=content.compression), content

    def _nothing(self, pattern: str, urls: Sequence[str]) -> ConfigError:
        aside = f"; left out: {left}" if (left := self.left_out()) else ""
        if urls and not all(map(_by_name, urls)):
            seen = ", ".join(sorted(shown(posixpath.basename(url)) for url in urls)[:5])
            what = f"found {seen}, and no file with one of the endings {', '.join(FORMATS)}; convert the files"
        elif is_pattern(pattern):
            what = f"no file matches this pattern{aside}; check the path"
        else:
            what = f"there is no file in this directory{aside}; check the path"
        return ConfigError(f"input = {pattern}: {what}")

    def _require_apart(self, pattern: str, place: str) -> None:
        if self._in_output(_place(place)):
            raise ConfigError(
                f"input = {pattern}: lies in the output {self.output}, whose own files would become its input; "
                "choose another output"
            )

    def _in_output(self, place: str) -> bool:
        return self._own is not None and f"{place}/".startswith(self._own)

    @cached_property
    def _own(self) -> str | None:
        return None if self.output is None else f"{_place(self.output).rstrip('/')}/"


def literal_part(url: str, storage: Storage) -> tuple[str, list[str]]:
    """The folder that a pattern names, and the names below it; a folder whose own name holds brackets is named, too."""
    names = url.split("/")
    index = next(at for at, name in enumerate(names) if is_pattern(name))
    while index < len(names) - 1 and not set("*?") & set(names[index]):
        if is_pattern(names[index]) and not storage.exists("/".join(names[: index + 1])):
            break
        index += 1
    folder = "/".join(names[:index]) or "/"
    return folder, names[index:]


def find_files(
    folder: str, names: Sequence[str], storage: Storage, aside: dict[str, list[str]] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """(URL, info) of the files that a pattern stands for below a folder, by path; none where there is no such folder.

    With `aside`, which takes what is left out, other outputs of this job below the folder are left out too.
    """
    try:
        found = storage.search(folder, names)
    except FileNotFoundError:
        return []
    files = sorted(found.files.items())
    if aside is not None:
        outputs = tuple(f"{path}/" for path in found.outputs)
        own = [path for path, _ in files if path.startswith(outputs)]
        files = [(path, info) for path, info in files if not path.startswith(outputs)]
        for kind, paths in (
            ("hidden names", [path for path in found.hidden if not path.startswith(outputs)]),
            ("folders, which a pattern reads with /** at its end", found.folders),
            *((why, [path for path in found.odd if found.odd[path] == why]) for why in sorted(set(found.odd.values()))),
            (OUTPUTS, own),
        ):
            aside[kind] += sorted(paths)
    return [(f"{folder.rstrip('/')}/{path}", info) for path, info in files]


def _by_name(url: str) -> tuple[Format, Compression] | None:
    ending = next((end for end in sorted(FORMATS, key=len, reverse=True) if url.lower().endswith(end)), None)
    return FORMATS[ending] if ending else None


def _identity(url: str, info: Mapping[str, Any]) -> str:
    return str(info.get("identity") or _place(url))


def _place(url: str) -> str:
    return os.path.realpath(url) if protocol_of(url) in LOCAL else url.replace("s3a://", "s3://", 1)


@dataclass(frozen=True, slots=True)
class HubDataset:
    """One split of a data set; without `config` the data set must have one configuration only."""

    id: str
    split: str
    config: str | None = None

    @classmethod
    def parse(cls, name: str) -> HubDataset:
        """From its written form. ConfigError when it is none."""
        id_, *rest = name.removeprefix(HUB_SCHEME).split(":")
        if not _HUB_ID.fullmatch(id_) or len(rest) not in (1, 2) or not all(map(_HUB_NAME.fullmatch, rest)):
            raise ConfigError(
                f"input = {name}: write dataset:ID:SPLIT or dataset:ID:CONFIG:SPLIT, e.g. dataset:rajpurkar/squad:train"
            )
        return cls(id_, rest[-1], rest[0] if len(rest) == 2 else None)

    def files(self, storage: Storage) -> list[tuple[str, dict[str, Any]]]:
        """(URL, info) of its files. ConfigError when there are none, or those of several configurations."""
        root = f"hf://datasets/{self.id}@{HUB_BRANCH}"
        try:
            found = find_files(*literal_part(f"{root}/{self.config or '*'}/{self.split}/*.parquet", storage), storage)
            others = [] if found else find_files(*literal_part(f"{root}/*/*/*.parquet", storage), storage)
        except RetryShard as error:
            raise ConfigError(
                f"input = {self}: the hub cannot be reached ({error}); without a network, give files on a disk"
            ) from None
        if not found:
            raise self._missing(url for url, _ in others)
        configs = sorted({url.split("/")[-3] for url, _ in found})
        if len(configs) > 1:
            raise ConfigError(
                f"input = {self}: has the configurations {', '.join(configs)}; "
                f"choose one: {HUB_SCHEME}{self.id}:{configs[0]}:{self.split}"
            )
        return found

    def _missing(self, urls: Iterable[str]) -> ConfigError:
        """Why there is nothing, given the files of all splits."""
        found = sorted({tuple(url.split("/")[-3:-1]) for url in urls})
        if any(split == f"partial-{self.split}" for _, split in found):
            return ConfigError(
                f"input = {self}: too large for the hub to convert as a whole, only its beginning is there as Parquet; "
                f"read the files of the repository: hf://datasets/{self.id}/**/*.parquet (or their ending)"
            )
        known = ", ".join(f"{config}:{split}" for config, split in found[:10]) or "nothing"
        return ConfigError(
            f"input = {self}: not among what the hub has as Parquet ({known}); check id, configuration and split, or "
            f"read the files of the repository: hf://datasets/{self.id}/**/*.parquet (or their ending)"
        )

    def __str__(self) -> str:
        return HUB_SCHEME + ":".join(filter(None, (self.id, self.config, self.split)))
