"""Progress of a run: a bar on a terminal, plain lines every few seconds in a log.

Both show the same figures: shards, rows, tokens per second and the rate so far. Which one is used depends on whether
the stream is a terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from cluster.output.records import counted

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands.

    done, planned    shards, of the whole corpus
    rows             rows finished in this run; rows of shards in flight count as they are done
    origin_tokens, compressed_tokens    of the shards that this run committed
    seconds          since the run began
    reused_tokens    of origin_tokens: came from an earlier output and are no speed
    """

    done: int
    planned: int
    rows: int
    origin_tokens: int
    compressed_tokens: int
    workers: int
    failures: int
    seconds: float
    reused_tokens: int = 0

    def figures(self) -> str:
        """Rows, speed and rate in one phrase, e.g. ``1,204 rows, 5,310 tokens/s, rate 0.499, 2 workers``."""
        parts = [counted(self.rows, "row")]
        if self.origin_tokens and self.seconds > 0:
            parts.append(f"{(self.origin_tokens - self.reused_tokens) / self.seconds:,.0f} tokens/s")
            parts.append(f"rate {self.compressed_tokens / self.origin_tokens:.3f}")
        parts.append(counted(self.workers, "worker"))
        if self.failures:
            parts.append(counted(self.failures, "failed attempt"))
        return ", ".join(parts)


class Progress(Protocol):
    """Where the driver tells how far it is."""

    def update(self, snapshot: Snapshot) -> None: ...

    def note(self, message: str) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def update(self, snapshot: Snapshot) -> None:
        """Says nothing."""

    def note(self, message: str) -> None:
        """Says nothing."""

    def close(self) -> None:
        """There is nothing to close."""


class Lines:
    """A plain line every `every` seconds, and at once when the last shard is done."""

    def __init__(
        self, stream: TextIO, every: float = SECONDS_BETWEEN_LINES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._spoke = float("-inf")
        self._done = -1

    def update(self, snapshot: Snapshot) -> None:
        finished = snapshot.done == snapshot.planned != self._done
        self._done = snapshot.done
        if finished or self._clock() - self._spoke >= self._every:
            self._spoke = self._clock()
            share = f"{snapshot.done}/{snapshot.planned} shards"
            self.note(f"{snapshot.seconds:7.0f} s  {share}, {snapshot.figures()}")

    def note(self, message: str) -> None:
        print(message, file=self._stream, flush=True)

    def close(self) -> None:
        """Lines need no closing."""


class Bar:
    """A bar that counts shards and carries the other figures behind it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None

    def update(self, snapshot: Snapshot) -> None:
        if self._bar is None:
            self._bar = tqdm(total=snapshot.planned, initial=snapshot.done, unit="shard", file=self._stream)
        self._bar.set_postfix_str(snapshot.figures(), refresh=False)
        self._bar.update(snapshot.done - self._bar.n)
        self._bar.refresh()

    def note(self, message: str) -> None:
        tqdm.write(message, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_on(stream: TextIO | None = None) -> Progress:
    """A bar if the stream (standard error unless given) is a terminal, else lines."""
    stream = sys.stderr if stream is None else stream
    return Bar(stream) if stream.isatty() else Lines(stream)
