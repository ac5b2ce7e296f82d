"""`Pipeline`: the rows of a shard through a compressor, each to exactly one outcome, in order, in bounded memory.

The compressor pulls prompts as far ahead as it likes; what waits between a row and its outcome is what it holds itself.
Rows without a prompt never reach it and take their turn among the others. What goes wrong while reading is kept apart
from what goes wrong while compressing (`UnexpectedError`), because the consequence differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.corpus import BadRow, Row
from cluster.errors import ClusterError, RetryShard, RowError, classify
from cluster.messages import Assignment
from lingua.errors import PromptError
from lingua.prompt import Outcome, Prompt, Rejected

Item = Row | BadRow
_Waiting = deque[tuple[Item, Rejected | None]]


class Streams(Protocol):
    """The one thing that a worker needs of a compressor."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]: ...


class UnexpectedError(Exception):
    """The compressor raised something that nobody expected; its cause is chained."""


@dataclass(slots=True)
class Meter:
    """How far a shard is: `read` rows were taken from it, `done` have their outcome."""

    read: int = 0
    done: int = 0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How rows become outcomes: the mapping to prompts, the compressor, and the `sink` that is given each pair."""

    to_prompt: Callable[[Mapping[str, object]], Prompt]
    compressor: Streams
    sink: Callable[[Item, Outcome], object]

    def run(self, items: Iterable[Item], assignment: Assignment, meter: Meter) -> None:
        """Settle every row of the shard that the assignment asks for."""
        waiting: _Waiting = deque()
        reading = _Guard(self._prompts(items, assignment, waiting, meter))
        try:
            for outcome in self.compressor.stream(iter(reading)):
                self._drain(waiting, meter)
                self._settle(waiting.popleft()[0], outcome, meter)
                self._drain(waiting, meter)
        except Exception as error:
            if reading.failed or isinstance(error, ClusterError) or not _unexpected(error):
                raise
            raise UnexpectedError(f"{type(error).__name__}: {error}") from error
        self._drain(waiting, meter)
        if waiting:
            raise UnexpectedError(f"the compressor gave no outcome for {len(waiting)} prompts")

    def _prompts(
        self, items: Iterable[Item], assignment: Assignment, waiting: _Waiting, meter: Meter
    ) -> Iterator[Prompt]:
        aside = {row.position: Rejected(row.reason, row.detail) for row in assignment.poison}
        for position, item in enumerate(items):
            meter.read += 1
            if assignment.probe is not None and position not in assignment.probe:
                continue
            prompt = aside.get(position) or self._prompt(item)
            if isinstance(prompt, Prompt):
                waiting.append((item, None))
                yield prompt
            else:
                waiting.append((item, prompt))
                self._drain(waiting, meter)

    def _prompt(self, item: Item) -> Prompt | Rejected:
        if isinstance(item, BadRow):
            return Rejected(item.reason, item.detail)
        try:
            return self.to_prompt(item.values)
        except (RowError, PromptError) as error:
            return Rejected(error.reason, error.detail)

    def _drain(self, waiting: _Waiting, meter: Meter) -> None:
        """Settle the rows at the head that need no compressor."""
        while waiting:
            item, rejected = waiting[0]
            if rejected is None:
                return
            waiting.popleft()
            self._settle(item, rejected, meter)

    def _settle(self, item: Item, outcome: Outcome, meter: Meter) -> None:
        self.sink(item, outcome)
        meter.done += 1


class _Guard:
    """An iterator that remembers whether an exception came out of it."""

    def __init__(self, prompts: Iterator[Prompt]) -> None:
        self._prompts = prompts
        self.failed = False

    def __iter__(self) -> Iterator[Prompt]:
        try:
            yield from self._prompts
        except Exception:
            self.failed = True
            raise


def _unexpected(error: Exception) -> bool:
    """Neither a hopeless condition of the machine nor an input or output error."""
    return classify(error) is RetryShard and not isinstance(error, OSError)
