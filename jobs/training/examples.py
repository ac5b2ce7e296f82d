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
from jobs.training.reading import Row, filled_text_of, naming, read_rows, text_of
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
    columns = [config.instruction_column, config.input_column, None if config.target else config.response_column]
    for number, row in read_rows(source, storage, [name for name in columns if name is not None]):
        with naming(f"{source.path}, row {number}"):
            yield _example(row, config)


def _example(row: Row, config: AlignConfig) -> Example:
    asked = [filled_text_of(row, config.instruction_column)]
    if config.input_column is not None:
        asked.append(text_of(row, config.input_column))
    response = "" if config.target else filled_text_of(row, config.response_column)
    return Example(config.template.replace("{instruction}", join_parts(asked, "\n\n")), response)
