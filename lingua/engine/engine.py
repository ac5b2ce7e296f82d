"""Runs many prompt coroutines at once and packs what they ask into batches by token count: continuous batching.

It is given programs (see `score`), keeps hundreds of them alive, fills each batch with whatever requests are waiting,
and resumes every program with its answers. It knows no tensor: a `Scorer` answers the rows of a batch. Where a device
computes by itself, the next batch is begun before programs are resumed with the answers of the one before.

What a program asks waits until there is memory for its contexts: what they hold, and are expected to grow to
(`Context.reserved`). Probes that are forgotten with their batch need none.

Rows of a corpus repeat each other: many questions about one document, the same demonstrations in every prompt. What is
asked after the same text is computed once, whoever asks; who asks meanwhile waits for the same answer. A program whose
answers are all known needs no keys and values; where its text diverges, it reuses their cache up to that point.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from lingua.engine.score import (
    Answer,
    Arriving,
    BatchRow,
    BoundedStore,
    Context,
    OutOfMemoryError,
    PoolFullError,
    Program,
    Score,
    ScoreCache,
    Scorer,
    digest_of,
)
from lingua.errors import ModelError, PromptError

T = TypeVar("T")
_Batch = list[tuple["_Job", BatchRow]]
_ANY_NUMBER = 1 << 60
_FIRST_PATIENCE, _MOST_PATIENCE = 4, 1_024
"""Batches that fit before a larger one is tried."""


@dataclass(slots=True, eq=False)
class _Job:
    """One `Score` on its way: a probe longer than a batch is answered piece by piece."""

    # the context as the program knows it; `context` is a fork of it where the probe takes several pieces
    original: Context
    probe: Sequence[int]
    key: Hashable = None  # what the answer is remembered by: what was read, and the probe; None: not at all
    context: Context = field(init=False)
    answers: list[Answer] = field(default_factory=list)
    done: int = 0
    # the programs that wait for the answer, once for each time they asked
    subscribers: list[_Running[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = self.original

    def row(self, longest: int, window: int) -> BatchRow:
        """The next piece: at most `longest` tokens. What is forgotten for it depends on the window, never on that."""
        stretch, left = stretch_of(longest, window), len(self.probe) - self.done
        size = min(left, stretch - self.done % stretch, max(1, longest))
        piece = self.probe[self.done : self.done + size]
        last = size == left
        if self.done % stretch == 0:
            self.context.slide(min(stretch, left), window)
        if not last and self.done == 0:
            self.context = self.context.fork()
        return BatchRow(self.context, piece, retain=not last)

    def accept(self, row: BatchRow, answer: Answer) -> bool:
        """Take the answer to a piece; True when the probe is complete."""
        self.answers.append(answer)
        self.done += len(row.probe)
        if row.retain:
            self.context.ids.extend(row.probe)
        return self.complete

    def release(self) -> bool:
        """Let the keys and values of its contexts go; False if it had none."""
        contexts = [context for context in (self.original, self.context) if context.cache]
        for context in contexts:
            context.cache = None
        return bool(contexts)

    @property
    def complete(self) -> bool:
        return self.done == len(self.probe)

    @property
    def answer(self) -> Answer:
        return self.answers[0] if len(self.answers) == 1 else np.concatenate([np.zeros(0, np.float32), *self.answers])


@dataclass(slots=True, eq=False)
class _Running(Generic[T]):
    """A program that waits for answers: `jobs`, of which `open` are not answered yet."""

    index: int
    program: Program[T]
    jobs: list[_Job] = field(default_factory=list)
    open: int = 0
    reserved: int = 0  # context tokens for which memory is set aside
    wanted: int = 0  # those that its jobs need; until they are set aside, the jobs are not computed for its sake

    def __lt__(self, other: _Running[T]) -> bool:
        return self.index < other.index


class _BatchSize:
    """Tokens of a batch: halved when memory runs out, doubled again after some batches that fit.

    How many those are doubles whenever it proves to have been too early: trials stay rare where memory is small.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self._full = scorer, scorer.batch_tokens
        self._patience, self._fitted, self._raised = _FIRST_PATIENCE, 0, False

    def fitted(self) -> None:
        if self._scorer.batch_tokens < self._full:
            self._fitted += 1
            if self._fitted >= self._patience:
                self._scorer.batch_tokens = min(self._full, 2 * self._scorer.batch_tokens)
                self._fitted, self._raised = 0, True

    def lower(self, tokens: int, error: OutOfMemoryError) -> None:
        """A batch of so many did not fit. Raises ModelError where less cannot be asked for."""
        if self._scorer.batch_tokens <= 1:
            fault = "out of memory with one token in the batch: too small for this model"
            raise ModelError(f"{fault} ({error})") from error
        self._scorer.batch_tokens = max(1, min(self._scorer.batch_tokens, tokens) // 2)
        self._patience = min(_MOST_PATIENCE, 2 * self._patience) if self._raised else self._patience
        self._fitted, self._raised = 0, False

    def restore(self) -> None:
        """Forget what was learned: the next run may find the memory free."""
        self._scorer.batch_tokens = max(self._full, self._scorer.batch_tokens)


class Engine(Generic[T]):
    """Drives programs over a scorer.

    At most `max_programs` are alive, and no more of them read than fit `scorer.live_tokens` together, so memory is
    bounded however many programs there are. `cache` keeps answers for other engines of the same scorer.

    _shelf     keys and values of contexts by what was read, for programs that read the same later
    _pending   jobs that are not answered yet, by key
    _ready     jobs for which memory is set aside, to be computed next
    """

    def __init__(self, scorer: Scorer, max_programs: int = 256, cache: ScoreCache | None = None) -> None:
        self._scorer = scorer
        self._max_programs = max_programs
        self._cache = cache if cache is not None else ScoreCache()
        self._shelf: BoundedStore[Any] = BoundedStore(scorer.live_tokens // 16)
        self._pending: dict[Hashable, _Job] = {}
        self._ready: deque[_Job] = deque()
        self._ahead = scorer.ahead
        self._size = _BatchSize(scorer)
        self._flying: deque[tuple[_Batch, Arriving[list[Answer]]]] = deque()
        self._finished: dict[int, T | PromptError] = {}
        self._live: dict[int, _Running[T]] = {}
        self._waiting_for_memory: list[_Running[T]] = []
        self._reserved = 0
        self._rows = _ANY_NUMBER

    def run(self, programs: Iterable[Program[T]]) -> Iterator[T | PromptError]:
        """Yield each program's result, or its PromptError, in order; programs are pulled as memory allows."""
        source, begun, emitted, more = iter(programs), 0, 0, True
        try:
            while more or self._live or self._finished:
                while more and not self._waiting_for_memory and begun - emitted < self._max_programs:
                    if (program := next(source, None)) is None:
                        more = False
                        break
                    self._live[begun] = _Running(begun, program)
                    self._resume(self._live[begun], None)
                    begun += 1
                self._admit()
                if self._ready or self._flying:
                    self._step()
                while emitted in self._finished:
                    yield self._finished.pop(emitted)
                    emitted += 1
        finally:
            self._size.restore()

    def _resume(self, running: _Running[T], answers: list[Answer] | None) -> None:
        try:
            scores = running.program.send(answers) if answers is not None else next(running.program)
            jobs = [self._job(score) for score in scores]
            while all(job.complete for job in jobs):
                scores = running.program.send([job.answer for job in jobs])
                jobs = [self._job(score) for score in scores]
        except StopIteration as stop:
            self._finish(running, stop.value)
        except PromptError as error:
            self._finish(running, error)
        else:
            running.jobs, running.wanted = jobs, sum(map(self._needs, scores))
            if running.wanted <= running.reserved or (not self._waiting_for_memory and self._fits(running)):
                self._enqueue(running)
            else:
                heapq.heappush(self._waiting_for_memory, running)

    def _finish(self, running: _Running[T], result: T | PromptError) -> None:
        self._finished[running.index] = result
        self._reserved -= running.reserved
        del self._live[running.index]

    def _needs(self, score: Score) -> int:
        """Context tokens for which a request needs memory beyond its batch; a probe's where it is cut."""
        stays = len(score.probe) > self._scorer.probe_tokens
        needed = len(score.context) + (len(score.probe) if stays else 0)
        return min(max(needed, score.context.reserved), self._scorer.window)

    def _fits(self, running: _Running[T]) -> bool:
        """Whether there is memory for what it wants; one alone always fits."""
        others = self._reserved - running.reserved
        return not others or others + running.wanted <= self._scorer.live_tokens

    def _admit(self) -> None:
        """Let programs on that wait for memory, the earliest first; one at least, where nothing else goes on."""
        waiting = self._waiting_for_memory
        while waiting and (self._fits(waiting[0]) or not (self._ready or self._flying)):
            self._enqueue(heapq.heappop(waiting))

    def _job(self, score: Score) -> _Job:
        """A new job; the same one, if its answer is already known or on its way."""
        context, window = score.context, self._scorer.window
        context.ids.extend(score.commit)
        job = _Job(context, score.probe)
        if job.complete or not self._cache.enabled:
            return job
        context.slide(min(len(score.probe), stretch_of(self._scorer.probe_tokens, window)), window)
        before, context.last_key = context.last_key, context.key()
        job.key = (context.last_key, digest_of(score.probe))
        known = self._cache.get(job.key)
        if known is not None:
            job.answers, job.done = [known], len(job.probe)
        elif job.key in self._pending:
            return self._pending[job.key]
        else:
            self._pending[job.key] = job
            self._catch_up(context, before)
        return job

    def _catch_up(self, context: Context, before: bytes) -> None:
        """Borrow the keys and values of a context that read the same, now or at its last request, if it has more."""
        for key in (context.last_key, before):
            cache = self._shelf.get(key)
            if cache is not None and (context.cache is None or cache.length > context.cache.length):
                context.cache = cache.fork()
                return

    def _enqueue(self, running: _Running[T]) -> None:
        """Set memory aside for a program's jobs and have them computed."""
        self._reserved += running.wanted - running.reserved
        running.reserved = running.wanted
        unanswered = [job for job in running.jobs if not job.complete]
        running.open = len(unanswered)
        for job in unanswered:
            if not job.subscribers:
                self._ready.append(job)
            job.subscribers.append(running)
        if not unanswered:  # others have asked the same meanwhile
            self._resume(running, [job.answer for job in running.jobs])

    def _step(self) -> None:
        """Begin as many batches as may be under way, then take the answers of the oldest."""
        while self._ready and len(self._flying) <= self._ahead and self._launch():
            pass
        if self._flying:
            self._land()

    def _launch(self) -> bool:
        batch = self._next_batch()
        try:
            self._flying.append((batch, self._scorer.start([row for _, row in batch])))
        except OutOfMemoryError as error:
            self._again(batch, error)
            return False
        self._rows = _ANY_NUMBER
        return True

    def _land(self) -> None:
        """Take a batch's answers and resume every program whose answers are complete."""
        batch, answers = self._flying.popleft()
        try:
            found = answers()
        except OutOfMemoryError as error:
            self._again(batch, error)
            return
        self._size.fitted()
        for (job, row), answer in zip(batch, found, strict=True):
            if job.accept(row, answer):
                self._answered(job)
            else:
                self._ready.appendleft(job)

    def _answered(self, job: _Job) -> None:
        if job.key is not None:
            self._cache.put(job.key, job.answer)
            del self._pending[job.key]
            self._shelve(job.original)
        subscribers, job.subscribers = job.subscribers, []  # no cycle keeps keys and values of programs that are done
        for running in subscribers:
            running.open -= 1
            if running.open == 0:
                self._resume(running, [one.answer for one in running.jobs])

    def _shelve(self, context: Context) -> None:
        """Let others read on from here, until this context itself has read on."""
        self._shelf.drop(context.shelved)
        if context.cache is not None:
            context.shelved = context.last_key
            self._shelf.put(context.shelved, context.cache.fork(), len(context))

    def _next_batch(self) -> _Batch:
        budget = self._budget()
        batch: _Batch = []
        while self._ready and len(batch) < self._rows:
            job = self._ready[0]
            row = job.row(self._scorer.probe_tokens, self._scorer.window)
            cost = len(row.probe) + len(row.context) - self._scorer.cached(row.context)
            if batch and cost > budget:
                break
            self._ready.popleft()
            batch.append((job, row))
            budget -= cost
        return batch

    def _budget(self) -> int:
        """Tokens of the next batch. A first one leaves half of the work to a second, so that two can take turns."""
        full = self._scorer.batch_tokens
        if not self._ahead or self._flying:
            return full
        waiting = sum(len(job.probe) - job.done for job in self._ready)
        return min(full, max(full // 4, waiting // 2))

    def _again(self, batch: _Batch, error: OutOfMemoryError) -> None:
        """Ask again: behind what is under way, with what others may borrow let go, in smaller batches.

        Where only the pool is full, that is all until something else makes room: later batches are of the usual size.
        """
        tokens = sum(len(row.probe) + len(row.context) - self._scorer.cached(row.context) for _, row in batch)
        self._ready.extendleft(job for job, _ in reversed(batch))
        if isinstance(error, PoolFullError) and (self._flying or self._release_caches(len(batch))):
            return
        if isinstance(error, PoolFullError) and len(batch) > 1:
            self._rows = len(batch) // 2
            return
        self._shelf.clear()
        if not self._flying or self._scorer.batch_tokens > 1:
            self._size.lower(tokens, error)

    def _release_caches(self, spared: int) -> bool:
        """Let go of keys and values that can be computed again; False if there are none.

        First those that others might borrow; then those of requests that are answered; then those of the newest one
        that waits and has any, but for the first `spared`.
        """
        if len(self._shelf):
            self._shelf.clear()
            return True
        answered = [job for running in self._live.values() for job in running.jobs if job.complete]
        released = [job for job in answered if job.release()]
        waiting = reversed(list(self._ready)[spared:])
        return bool(released) or any(job.release() for job in waiting)


def stretch_of(longest: int, window: int) -> int:
    """Probe tokens before which a context slides once, where a piece holds at most `longest`."""
    return max(1, longest, window // 2)
