"""Where the time goes: a clock with named stages, and stand-ins that run the real scorer and tokenizer under it.

They wrap from outside, so that the engine carries no counters. What is neither model nor tokenizer is the host's:
selection, packing, Python.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lingua.engine.score import Answers, BatchRow, Context, Scorer, Surprisal, ahead_of, start
from lingua.text.tokens import Encoding, Ints, SourceTokenizer


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch's work: tokens computed, tokens scored, and (query, key) pairs of attention."""

    tokens: int
    scored: int
    pairs: int


@dataclass(slots=True)
class MeasuredScorer:
    """A scorer whose batches are timed and counted; it is a `Scorer` itself."""

    inner: Scorer
    clock: Clock
    batches: list[Batch] = field(default_factory=list)

    @property
    def window(self) -> int:
        return self.inner.window

    @window.setter
    def window(self, tokens: int) -> None:
        self.inner.window = tokens

    @property
    def batch_tokens(self) -> int:
        return self.inner.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, tokens: int) -> None:
        self.inner.batch_tokens = tokens

    @property
    def live_tokens(self) -> int:
        return self.inner.live_tokens

    @live_tokens.setter
    def live_tokens(self, tokens: int) -> None:
        self.inner.live_tokens = tokens

    @property
    def probe_tokens(self) -> int:
        return self.inner.probe_tokens

    def cached(self, context: Context) -> int:
        return self.inner.cached(context)

    @property
    def ahead(self) -> int:
        return ahead_of(self.inner)

    def score(self, rows: Sequence[BatchRow]) -> list[Surprisal]:
        return self.start(rows)()

    def start(self, rows: Sequence[BatchRow]) -> Answers:
        """The stage ``model`` is what the host spends on launching batches and waiting for them."""
        batch = self._work(rows)
        with self.clock.stage("model"):
            answers = start(self.inner, rows)
        return lambda: self._finish(batch, answers)

    def _finish(self, batch: Batch, answers: Answers) -> list[Surprisal]:
        with self.clock.stage("model"):
            found = answers()
        self.batches.append(batch)
        return found

    def _work(self, rows: Sequence[BatchRow]) -> Batch:
        cached = [self.inner.cached(row.context) for row in rows]
        new = [len(row.context) - start + len(row.probe) for row, start in zip(rows, cached, strict=True)]
        pairs = sum(size * start + size * (size + 1) // 2 for size, start in zip(new, cached, strict=True))
        return Batch(sum(new), sum(len(row.probe) for row in rows), pairs)


class MeasuredTokenizer(SourceTokenizer):
    """The compressor's tokenizer under the clock."""

    def __init__(self, tokenizer: Any, clock: Clock) -> None:
        super().__init__(tokenizer)
        self._clock = clock

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        with self._clock.stage("tokenize"):
            return super().encode(texts)

    def count(self, text: str) -> int:
        with self._clock.stage("tokenize"):
            return super().count(text)

    def starts(self, text: str) -> Ints:
        with self._clock.stage("tokenize"):
            return super().starts(text)
