"""Rows of JSON Lines or Parquet → `Example`s: what was asked, and the target model's text after it.

All rows are read before any model loads; one that cannot be used ends the run, with its file, row and field: a training
set is small and worth mending. Rows are deduplicated and put in an order that depends on their content and the seed
alone, so that the held-out ones are the same whatever the files are called. A held-out instruction is never trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cluster.inputs import expand_inputs
from cluster.shards import Source
from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.reading import Row, holds_half_a_character, read_rows
from lingua.errors import ConfigError
from lingua.prompt import join_parts


@dataclass(frozen=True, slots=True)
class Example:
    """`before` is the text that both models read, `response` what the target wrote after it ("" while unknown)."""

    before: str
    response: str


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on and what is measured with."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def read_examples(config: AlignConfig, storage: Storage) -> list[Example]:
    """The rows of all inputs, each once, in an order drawn by the seed. ConfigError names file, row and field."""
    found = {
        example: None for source in expand_inputs(config.inputs, storage) for example in _of(source, config, storage)
    }
    if not found:
        raise ConfigError(f"input = {', '.join(config.inputs)}: holds no rows")
    return sorted(found, key=lambda example: _draw(config.seed, example))[: config.limit]


def split(examples: Sequence[Example], held_out: int) -> Split:
    """The first `held_out` for measuring; the others for training, except those that share text before a response.

    Raises ConfigError when nothing is left to train on.
    """
    held = tuple(examples[:held_out])
    known = {example.before for example in held}
    train = tuple(example for example in examples[held_out:] if example.before not in known)
    if not train:
        raise ConfigError(
            f"held_out = {held_out}: of {len(examples)} usable rows none is left to train on; lower it or add rows"
        )
    return Split(train, held)


def digest(examples: Iterable[Example]) -> str:
    """Digest of examples in their order."""
    total = hashlib.blake2b(digest_size=16)
    for example in examples:
        total.update(f"{len(example.before)}\0{example.before}{len(example.response)}\0{example.response}".encode())
    return total.hexdigest()


def _draw(seed: int, example: Example) -> bytes:
    return hashlib.blake2b(f"{seed}\0{example.before}\0{example.response}".encode(), digest_size=16).digest()


def _of(source: Source, config: AlignConfig, storage: Storage) -> Iterator[Example]:
    for number, row in read_rows(source, storage, _columns(config)):
        where = f"{source.path}, row {number}"
        parts = [_text(row, name, where) for name in _columns(config)]
        response = "" if config.target else parts.pop()
        if not parts[0].strip() or not (config.target or response.strip()):
            raise ConfigError(f"{where}: {_columns(config)[-1 if parts[0].strip() else 0]} is empty; remove the row")
        yield Example(config.template.replace("{instruction}", join_parts(parts, "\n\n")), response)


def _columns(config: AlignConfig) -> list[str]:
    own = [config.instruction_column, config.input_column, None if config.target else config.response_column]
    return [name for name in own if name is not None]


def _text(row: Row, name: str, where: str) -> str:
    if name not in row:
        raise ConfigError(
            f"{where}: has no column {name!r}, but {', '.join(sorted(row)) or 'none'}; name the right one"
        )
    value = row[name]
    if not isinstance(value, str):
        raise ConfigError(
            f"{where}: {name} = {str(value)[:80]!r} is no text but {type(value).__name__}; write a string"
        )
    if holds_half_a_character(value):
        raise ConfigError(f"{where}: {name} holds a lone surrogate: not valid text; mend the row")
    return value
