"""Which rows are measured: read by `forms`, chosen by offset, limit and seed, and checked before any model loads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cluster.storage.storage import Storage
from jobs.evaluation.forms import read
from jobs.evaluation.rows import EvalRow, fewer_strings
from jobs.evaluation.specs import NAME
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a set: after a shuffle by `seed` (None: as they stand), `limit` rows from `offset` on.

    strings   context strings of each row at most, the evidence among them; None: all
    """

    limit: int | None = None
    offset: int = 0
    seed: int | None = None
    strings: int | None = None

    def of(self, rows: Iterator[EvalRow]) -> list[EvalRow]:
        """The chosen rows; no more are read than are needed to choose."""
        chosen = self._chosen(rows)
        return chosen if self.strings is None else [fewer_strings(row, self.strings) for row in chosen]

    def _chosen(self, rows: Iterator[EvalRow]) -> list[EvalRow]:
        end = None if self.limit is None else self.offset + self.limit
        if self.seed is None:
            return list(islice(rows, self.offset, end))
        shuffled = list(rows)
        random.Random(self.seed).shuffle(shuffled)
        return shuffled[self.offset : end]


def load_sets(data: Mapping[str, str], selection: Selection, storage: Storage) -> dict[str, list[EvalRow]]:
    """The chosen rows of each set, by the name that the user gave it. ConfigError when a row cannot be used."""
    sets = {name: selection.of(named(name, read(url, storage))) for name, url in data.items()}
    for name, rows in sets.items():
        _require_usable(name, data[name], rows)
    return sets


def named(name: str, rows: Iterator[EvalRow]) -> Iterator[EvalRow]:
    """The rows as members of the set of this name; the set's own name stays in ``meta["set"]``."""
    return (replace(row, set=name, meta={"set": row.set or name, **row.meta}) for row in rows)


def _require_usable(name: str, url: str, rows: Sequence[EvalRow]) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"--data {name}={url}: a set's name is made of letters, digits, - and _")
    if not rows:
        raise ConfigError(f"--data {name}={url}: no rows are left; look at the file, --offset and --limit")
    seen = set[str]()
    for row in rows:
        fault = _fault(row, seen)
        if fault:
            raise ConfigError(f"{url}, row {row.id!r}: {fault}")
        seen.add(row.id)


def _fault(row: EvalRow, seen: set[str]) -> str | None:
    if row.id in seen:
        return "field 'id': two rows have this id"
    if not any(row.context):
        return "field 'context' is empty: there is nothing to compress"
    if not any(answer.strip() for answer in row.answers):
        return "field 'answers' is empty: there is nothing to compare with"
    try:
        Prompt(row.instruction, row.context, row.question)
    except PromptError as error:
        return f"field {error.detail}"
    return None
