"""From a shard to prompts: `read_rows` streams its rows, and a `RowForm` says what a row is to a compressor.

A row carries what prompts are made of as Python values and all its input columns as Arrow, so that columns pass through
without a conversion (nested types, nanoseconds, dictionaries, binary). Row numbers are those of the file, from 0: for
JSON Lines the line's, blank lines included. `jsonl` and `parquet` say what becomes of damaged files; a file that is not
the planned one any more is SourceChanged, looked at before the first row and again after the last.

A document or a prompt is compressed as it stands. A structured value is taken apart into the pieces of a prompt, and
put together again from what is left of them: that is then the text of its outcome.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from cluster.input.columns import Columns, from_arrow, text_of
from cluster.input.jsonl import read_jsonl
from cluster.input.parquet import read_parquet
from cluster.input.shards import BadRow, Row, Shard, require_unchanged
from cluster.storage.storage import Storage
from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.structured.streams import Structure, structure_of

T = TypeVar("T")
Item = Row | BadRow
MAX_ITEMS = 2048
MAX_WEIGHT = 32 << 20
TOO_DEEP = "too_deep", "the value nests too deeply"


def read_rows(shard: Shard, columns: Columns, storage: Storage) -> Iterator[Row | BadRow]:
    """The rows of a shard in order, streamed. Raises SourceChanged, and RetryShard where the storage fails."""
    require_unchanged(shard.source, storage)
    if shard.source.format == "parquet":
        for row in read_parquet(shard, columns, storage):
            yield _as_json(row, columns)
    else:
        yield from read_jsonl(shard, columns, storage)
    require_unchanged(shard.source, storage)


def _as_json(row: Row | BadRow, columns: Columns) -> Row | BadRow:
    """A row of Arrow with its structured value, if it has one, in JSON's types."""
    kind = columns.mapped.kind
    if kind is None or isinstance(row, BadRow):
        return row
    name = getattr(columns.mapped, kind)
    return replace(row, values={**row.values, name: from_arrow(kind, row.values[name])})


class ReadAhead(Generic[T]):
    """Iterate over it once; `close` stops the thread early."""

    def __init__(
        self, items: Iterator[T], weigh: Callable[[T], int], max_items: int = MAX_ITEMS, max_weight: int = MAX_WEIGHT
    ) -> None:
        self._items = items
        self._weigh = weigh
        self._max_items = max_items
        self._max_weight = max_weight
        self._waiting: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._change = threading.Condition()
        self._exhausted = False
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._advance, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._exhausted)
                if not self._waiting:
                    break
                item, weight = self._waiting.popleft()
                self._weight -= weight
                self._change.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop reading and forget what waits. Safe to call again."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()
        self._thread.join(timeout=30)

    def _advance(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, self._weigh(item)):
                    break
        except Exception as error:  # it belongs to the consumer, in whose thread it is raised again
            self._error = error
        with self._change:
            self._exhausted = True
            self._change.notify_all()

    def _put(self, item: T, weight: int) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._has_room(weight))
            if self._closed:
                return False
            self._waiting.append((item, weight))
            self._weight += weight
            self._change.notify_all()
        return True

    def _has_room(self, weight: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._max_items and self._weight + weight <= self._max_weight


@dataclass(frozen=True, slots=True)
class RowForm:
    """The way of a row to a prompt and back. `structure`: of its structured value; None: it is compressed as it is."""

    columns: Columns
    structure: Structure[Any] | None = None

    @classmethod
    def of(cls, columns: Columns, compression: CompressionConfig) -> RowForm:
        """The form of a run's rows: its columns and its settings say it."""
        kind = columns.mapped.kind
        return cls(columns, structure_of(kind, compression) if kind else None)

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt in a row's values. PromptError when there is none."""
        if self.structure is None:
            return self.columns.prompt(values)
        try:
            return self.structure.decompose(self.columns.value(values).value)
        except RecursionError:
            raise PromptError(*TOO_DEEP) from None

    def settled(self, item: Row | BadRow, outcome: Outcome) -> Outcome:
        """The outcome of a row from that of its prompt: with the value put together again as its text.

        That of an earlier output is it already.
        """
        if self.structure is None or isinstance(item, BadRow) or isinstance(outcome, Rejected) or item.earlier:
            return outcome
        try:
            value = self.structure.reassemble(self.columns.value(item.values).value, outcome)
            return replace(outcome, text=text_of(value))
        except RecursionError:  # putting together nests deeper than taking apart
            return Rejected(*TOO_DEEP)
