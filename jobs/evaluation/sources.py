"""Which rows are measured: read by `forms`, chosen by offset, limit and seed, and checked before any model loads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cluster.storage.storage import Storage
from jobs.evaluation.forms import read
from jobs.evaluation.rows import EvalRow, fewer_strings
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import NAME
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Prompt


def load_sets(config: EvalConfig, storage: Storage) -> dict[str, list[EvalRow]]:
    """The chosen rows of each set, by the name that the user gave it. ConfigError when a row cannot be used."""
    sets = {name: chosen(named(name, read(url, storage)), config) for name, url in config.data.items()}
    for name, rows in sets.items():
        _require_usable(name, config.data[name], rows)
    return sets


def chosen(rows: Iterator[EvalRow], config: EvalConfig) -> list[EvalRow]:
    """Rows by `limit`, `offset` and `seed`, of `strings` strings at most; no more are read than needed to choose."""
    if config.seed is not None:
        shuffled = list(rows)
        random.Random(config.seed).shuffle(shuffled)
        rows = iter(shuffled)
    found = islice(rows, config.offset, None if config.limit is None else config.offset + config.limit)
    return [row if config.strings is None else fewer_strings(row, config.strings) for row in found]


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
