"""Which rows are measured: read by `forms`, chosen by offset, limit and seed, checked; and rows as lines of a file.

A row in the unified form has ``id``, ``context`` (a list of strings), ``question`` and ``answers``; ``instruction``,
``gold``, ``meta`` and ``set`` if there are any. What is wrong is said with file, row and field, before any model loads.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from cluster.storage.storage import Storage
from jobs.evaluation.forms import read
from jobs.evaluation.rows import EvalRow, fewer_strings
from jobs.evaluation.specs import NAME
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Prompt

REQUIRED = ("id", "context", "question", "answers")


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


def parse_row(line: bytes, where: str) -> EvalRow:
    """One row. ConfigError naming `where`, the field and what is wanted."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: is no JSON ({error})") from None
    if not isinstance(record, dict):
        raise ConfigError(f"{where}: must be an object with {', '.join(REQUIRED)}")
    missing = [name for name in REQUIRED if record.get(name) is None]
    if missing:
        raise ConfigError(f"{where}: field {missing[0]!r} is missing; a row needs {', '.join(REQUIRED)}")
    return EvalRow(
        id=str(record["id"]),
        set=str(record.get("set") or ""),
        instruction=_text(record, "instruction", where),
        context=_texts(record, "context", where),
        question=_text(record, "question", where),
        answers=_texts(record, "answers", where),
        gold=_object(record, "gold", where),
        meta=_object(record, "meta", where),
    )


def to_line(row: EvalRow) -> bytes:
    """The inverse of `parse_row`."""
    return json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name) or ""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: field {name!r} must be a string, not {type(value).__name__}")
    return value


def _texts(record: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = record[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}: field {name!r} must be a list of strings")
    return tuple(value)


def _object(record: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = record.get(name) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: field {name!r} must be an object, not {type(value).__name__}")
    return value


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
