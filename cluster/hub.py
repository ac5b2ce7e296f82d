"""A data set of the Hugging Face hub by its name: ``dataset:ID:SPLIT`` or ``dataset:ID:CONFIG:SPLIT`` as an input.

It stands for the Parquet files into which the hub converts public data sets (branch ``refs/convert/parquet``, a folder
a configuration and split). They are sharded like any other files; nothing is downloaded beforehand. Of large data sets
the hub converts only the beginning (``partial-SPLIT``): these are refused, never cut short in silence. Other files of
a repository are read as ``hf://datasets/ID/…``, with globs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lingua.errors import ConfigError

SCHEME = "dataset:"
BRANCH = "refs/convert/parquet"
_NAME = re.compile(r"[\w.-]+")
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """One split of a data set; without `config` the data set must have one configuration only."""

    id: str
    split: str
    config: str | None = None

    @classmethod
    def parse(cls, name: str) -> HubDataset:
        """From its written form. ConfigError when it is none."""
        id_, *rest = name.removeprefix(SCHEME).split(":")
        if not _ID.fullmatch(id_) or len(rest) not in (1, 2) or not all(map(_NAME.fullmatch, rest)):
            raise ConfigError(
                f"input = {name}: write dataset:ID:SPLIT or dataset:ID:CONFIG:SPLIT, e.g. dataset:rajpurkar/squad:train"
            )
        return cls(id_, rest[-1], rest[0] if len(rest) == 2 else None)

    @property
    def root(self) -> str:
        """The folder of its converted files, as a URL."""
        return f"hf://datasets/{self.id}@{BRANCH}"

    @property
    def glob(self) -> str:
        """Its files."""
        return f"{self.root}/{self.config or '*'}/{self.split}/*.parquet"

    @property
    def any_split(self) -> str:
        """The files of all its splits and configurations."""
        return f"{self.root}/*/*/*.parquet"

    def require_one(self, urls: Iterable[str]) -> None:
        """ConfigError when files of several configurations were found."""
        configs = sorted({url.split("/")[-3] for url in urls})
        if len(configs) > 1:
            raise ConfigError(
                f"input = {self}: has the configurations {', '.join(configs)}; "
                f"choose one: {SCHEME}{self.id}:{configs[0]}:{self.split}"
            )

    def missing(self, urls: Iterable[str]) -> ConfigError:
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
        return SCHEME + ":".join(filter(None, (self.id, self.config, self.split)))
