"""Rows of JSON Lines or Parquet → what a training job works on: `Example`s to align with, `Passage`s to label.

All rows are read and checked before any model loads, and the first that cannot be used ends the run with its file,
number and field: a training set is small and worth mending.
"""

from __future__ import annotations

import hashlib
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from cluster.errors import RowError
from cluster.input.columns import Columns, Mapped
from cluster.input.inputs import list_inputs
from cluster.input.jsonl import read_jsonl
from cluster.input.parquet import open_parquet
from cluster.input.shards import BadRow, Shard, Source
from cluster.storage.storage import Storage
from jobs.training.labels import Passage, label_answers, labels_of_row, require_whole
from jobs.training.settings import AlignConfig, DistillConfig, TrainingConfig
from lingua.errors import ConfigError
from lingua.prompt import join_parts

T = TypeVar("T")
Config = TypeVar("Config", bound=TrainingConfig)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """`before` is the text that both models read, `response` what the target wrote after it ("" while unknown)."""

    before: str
    response: str


def read_examples(config: AlignConfig, storage: Storage) -> list[Example]:
    """The rows of all inputs, each once, in an order that depends on their content and the seed alone."""
    found = dict.fromkeys(_checked(config, storage, _example))
    return sorted(found, key=lambda one: draw(config.seed, one.before, one.response))[: config.limit]


def split(examples: Sequence[Example], held_out: int) -> tuple[list[Example], list[Example]]:
    """What to train on and what to measure with: the first `held_out`, whose prompts are never trained on.

    Raises ConfigError when nothing is left to train on.
    """
    held = list(examples[:held_out])
    known = {example.before for example in held}
    if not (train := [example for example in examples[held_out:] if example.before not in known]):
        why = f"of {len(examples)} usable rows none is left to train on; lower it or add rows"
        raise ConfigError(f"held_out = {held_out}: {why}")
    return train, held


def read_passages(config: DistillConfig, storage: Storage) -> Iterator[Passage]:
    """The rows of all inputs in their order, streamed."""
    return islice(_checked(config, storage, _passage), config.limit)


def draw(seed: int, *texts: str) -> bytes:
    """What to sort by for an order that looks random and depends on the seed and the texts alone."""
    return hashlib.blake2b("\0".join([str(seed), *texts]).encode(), digest_size=16).digest()


def digest(texts: Iterable[str]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for text in texts:
        total.update(f"{len(text)}\0{text}".encode())
    return total.hexdigest()


def digest_of(examples: Iterable[Example]) -> str:
    return digest(text for one in examples for text in (one.before, one.response))


def _checked(config: Config, storage: Storage, make: Callable[[Config, str, Row], T]) -> Iterator[T]:
    """What `make` makes of every row. ConfigError names the row that it cannot use, or inputs without rows."""
    number = None
    for source in list_inputs(config.inputs, storage).sources:
        for number, row in _rows(source, storage):
            try:
                made = make(config, f"{source.path.rpartition('/')[2]}, row {number}", row)
            except RowError as error:
                raise ConfigError(f"{source.path}, row {number}: {error.detail}") from None
            yield made
    if number is None:
        raise ConfigError(f"input = {', '.join(config.inputs)}: holds no rows")


def _rows(source: Source, storage: Storage) -> Iterator[tuple[int, Row]]:
    """(number from 0, columns) of every row. ConfigError for one that is no row."""
    if source.format == "parquet":
        with open_parquet(source, storage) as file:
            batches = file.iter_batches(use_threads=False)
            yield from enumerate(_ParquetRow(batch, index) for batch in batches for index in range(batch.num_rows))
        return
    for row in read_jsonl(Shard("rows", source, 0, source.size), Columns(Mapped(), None), storage):
        if isinstance(row, BadRow):
            raise ConfigError(f"{source.path}, row {row.number}: {row.detail}")
        assert isinstance(row.carried, dict)
        yield row.number, row.carried


class _ParquetRow(UserDict[str, Any]):
    """A row of Parquet, whose columns become Python values when they are asked for. RowError for one that cannot."""

    def __init__(self, batch: pa.RecordBatch, index: int) -> None:
        super().__init__(zip(batch.schema.names, batch.columns, strict=True))
        self._index = index

    def __getitem__(self, name: str) -> Any:
        try:
            return self.data[name][self._index].as_py()
        except UnicodeDecodeError as error:
            why = f"is not UTF-8 at byte {error.start}; write it again or remove the row"
            raise RowError("invalid_utf8", f"{name} {why}") from None
        except (ValueError, OverflowError) as error:
            raise RowError("no_text", f"{name} is no value that Python knows ({error}); write a string") from None


def _example(config: AlignConfig, _: str, row: Row) -> Example:
    asked = [_filled(row, config.instruction_column)]
    if config.input_column is not None:
        asked.append(_text(row, config.input_column))
    response = "" if config.target else _filled(row, config.response_column)
    return Example(config.template.replace("{instruction}", join_parts(asked, "\n\n")), response)


def _passage(config: DistillConfig, origin: str, row: Row) -> Passage:
    if config.teacher == "labels":
        if not (labelled := labels_of_row(row, origin)).text.strip():
            raise RowError("no_text", "words is empty; write those of a text or remove the row")
        return Passage(labelled.origin, labelled.text, labelled)
    text = _filled(row, config.text_column)
    if config.teacher == "answers":
        return Passage(origin, text, label_answers(text, row.get("answers"), origin))
    return Passage(origin, text, _filled(row, "compressed") if config.teacher == "pairs" else None)


def _text(row: Row, name: str) -> str:
    """The text in a column, which may be empty. RowError when there is none."""
    if name not in row:
        raise RowError("no_column", f"no column {name!r}, but {', '.join(sorted(row)) or 'none'}; name the right one")
    if not isinstance(value := row[name], str):
        raise RowError("no_text", f"{name} = {str(value)[:80]!r} is no text but {type(value).__name__}; write a string")
    require_whole(value, name)
    return value


def _filled(row: Row, name: str) -> str:
    """The same, with more than white space in it."""
    if not (text := _text(row, name)).strip():
        raise RowError("no_text", f"{name} is empty; write a text or remove the row")
    return text
