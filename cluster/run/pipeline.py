"""`Pipeline`: the rows of a shard through a compressor, each to exactly one outcome, in order, in bounded memory.

Rows are read ahead in a thread (`ReadAhead`), so that storage is read while the model works. The compressor pulls
prompts as far ahead as it likes; what waits between a row and its outcome is what it holds itself. Rows without a
prompt, and rows whose result is known, never reach it and take their turn among the others; where so many of these wait
behind one that it fills memory, the compressor is let finish before it is given more. What goes wrong while reading is
kept apart from what goes wrong while compressing (`UnexpectedError`), because the consequence differs.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cluster.errors import ClusterError, RetryShard, classify
from cluster.input.shards import BadRow, Row, weight
from cluster.protocol import Assignment, Beat
from lingua.errors import PromptError
from lingua.explain import public
from lingua.prompt import Outcome, Prompt, Rejected

T = TypeVar("T")

MAX_ITEMS = 2048
MAX_WEIGHT = 32 << 20
MAX_READY = 32 << 20
"""Bytes of rows with an outcome that may wait behind one without."""
MAX_EXAMPLE = 200
"""Characters of what is said of the first rejected row."""
MAX_HELD = 64 << 20
"""Bytes of rows that may wait for an outcome, their pass-through columns included."""


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


Item = Row | BadRow


class StreamsPrompts(Protocol):
    """The one thing that a worker needs of a compressor."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]: ...


class UnexpectedError(Exception):
    """The compressor raised something that nobody expected; its cause is chained."""


@dataclass(slots=True)
class Meter:
    """How far a shard is: `read` rows were taken from it, `done` have their outcome. Rejected ones: see `Beat`."""

    read: int = 0
    done: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def settled(self, item: Item, outcome: Outcome) -> None:
        """One more row is done."""
        self.done += 1
        if isinstance(outcome, Rejected):
            self.rejects[outcome.reason] += 1
            self.example = self.example or f"row {item.number}: {public(outcome.detail)[:MAX_EXAMPLE]}"

    def beat(self) -> Beat:
        """The same as it is now, to be sent."""
        return Beat(self.read, self.done, dict(self.rejects), self.example)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How rows become outcomes: the mapping to prompts, the compressor, and the `sink` that is given each pair."""

    to_prompt: Callable[[Mapping[str, object]], Prompt]
    compressor: StreamsPrompts
    sink: Callable[[Item, Outcome], object]

    def run(self, items: Iterable[Item], assignment: Assignment, meter: Meter) -> None:
        """Settle every row of the shard that the assignment asks for."""
        waiting = _Waiting()
        reading = _Guard(self._prompts(items, assignment, waiting, meter))
        try:
            while not reading.ended:
                self._stream(iter(reading), waiting, meter)
                if not (reading.ended or reading.paused):
                    raise UnexpectedError("the compressor ended before its prompts did")
        except Exception as error:
            if reading.failed or isinstance(error, (ClusterError, UnexpectedError)) or not _unexpected(error):
                raise
            raise UnexpectedError(f"{type(error).__name__}: {error}") from error

    def _stream(self, prompts: Iterator[Prompt], waiting: _Waiting, meter: Meter) -> None:
        for outcome in self.compressor.stream(prompts):
            self._drain(waiting, meter)
            self._settle(waiting.take(), outcome, meter)
            self._drain(waiting, meter)
        self._drain(waiting, meter)
        if waiting.rows:
            raise UnexpectedError(f"the compressor gave no outcome for {len(waiting.rows)} prompts")

    def _prompts(
        self, items: Iterable[Item], assignment: Assignment, waiting: _Waiting, meter: Meter
    ) -> Iterator[Prompt | None]:
        """The prompts for the compressor; None where it should finish first."""
        for position, item in enumerate(items):
            meter.read += 1
            if assignment.probe is not None and position not in assignment.probe:
                continue
            prompt = assignment.poison.get(position) or self._prompt(item)
            if isinstance(prompt, Prompt):
                waiting.add(item, None)
                yield prompt
            else:
                waiting.add(item, prompt)
                self._drain(waiting, meter)
            if waiting.ready >= MAX_READY or waiting.held >= MAX_HELD:
                yield None

    def _prompt(self, item: Item) -> Prompt | Outcome:
        if isinstance(item, BadRow):
            return Rejected(item.reason, item.detail)
        if item.earlier is not None:
            return item.earlier
        try:
            return self.to_prompt(item.values)
        except PromptError as error:
            return Rejected(error.reason, error.detail)

    def _drain(self, waiting: _Waiting, meter: Meter) -> None:
        """Settle the rows at the head that need no compressor."""
        while waiting.rows and (outcome := waiting.rows[0][1]) is not None:
            self._settle(waiting.take(), outcome, meter)

    def _settle(self, item: Item, outcome: Outcome, meter: Meter) -> None:
        self.sink(item, outcome)
        meter.settled(item, outcome)


class _Waiting:
    """Rows in their order, with their outcome if they have it. `held`: their bytes; `ready`: of those that have one."""

    def __init__(self) -> None:
        self.rows: deque[tuple[Item, Outcome | None, int]] = deque()
        self.held = self.ready = 0

    def add(self, item: Item, outcome: Outcome | None) -> None:
        size = weight(item)
        self.rows.append((item, outcome, size))
        self.held += size
        self.ready += 0 if outcome is None else size

    def take(self) -> Item:
        item, outcome, size = self.rows.popleft()
        self.held -= size
        self.ready -= 0 if outcome is None else size
        return item


class _Guard:
    """Prompts up to the next None, and on from there; remembers its end and whether an exception came out of it."""

    def __init__(self, prompts: Iterator[Prompt | None]) -> None:
        self._prompts = prompts
        self.failed = self.ended = self.paused = False

    def __iter__(self) -> Iterator[Prompt]:
        self.paused = False
        try:
            while (prompt := next(self._prompts)) is not None:
                yield prompt
            self.paused = True
        except StopIteration:
            self.ended = True
        except Exception:
            self.failed = True
            raise


def _unexpected(error: Exception) -> bool:
    """Neither a hopeless condition of the machine nor an input or output error."""
    return classify(error) is RetryShard and not isinstance(error, OSError)
