"""Runs many prompt coroutines at once and packs what they ask into batches by token count: continuous batching.

It is given programs (see `score`), keeps hundreds of them alive, fills each batch with whatever requests are waiting,
and resumes every program with its answers. It knows no tensor: a `Scorer` answers the rows of a batch. Where a device
computes by itself, the next batch is begun before programs are resumed with the answers of the one before.

Rows of a corpus repeat each other: many questions about one document, the same demonstrations in every prompt. What is
asked after the same text is computed once, whoever asks; who asks meanwhile waits for the same answer. A program whose
answers are all known needs no keys and values; where it leaves the others' way, it goes on from theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from lingua.errors import ModelError, PromptError
from lingua.memory import Memory, Store, digest_of
from lingua.score import Answers, Context, OutOfMemoryError, Program, Row, Score, Scorer, Surprisal, ahead_of, start

T = TypeVar("T")
_Batch = list[tuple["_Job", Row]]


@dataclass(slots=True, eq=False)
class _Job:
    """One `Score` on its way: a probe longer than a batch is answered piece by piece.

    asked     the context as the program knows it; `context` is a fork of it where the probe takes several pieces
    key       what the answer is remembered by: what was read, and the probe; None: not at all
    hold      whether the next request may reuse what was computed for this one: such answers depend on all that came
              before, and are not shared
    waiting   the programs that wait for the answer, once for each time they asked
    """

    asked: Context
    probe: Sequence[int]
    key: Hashable = None
    hold: bool = False
    context: Context = field(init=False)
    answers: list[Surprisal] = field(default_factory=list)
    done: int = 0
    waiting: list[_Running[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = self.asked

    def row(self, room: int, window: int) -> Row:
        """The next piece: at most `room` tokens. What is forgotten for it depends on the window, never on `room`.

        What may be reused is not cut by `room`: it would depend on the batch whether it can be.
        """
        room = window // 2 if self.hold else room
        stretch, ahead = stretch_of(room, window), len(self.probe) - self.done
        size = min(ahead, stretch - self.done % stretch, max(1, room))
        piece = self.probe[self.done : self.done + size]
        last = size == ahead
        if self.done % stretch == 0:
            self.context.make_room(min(stretch, ahead), window)
        if not last and self.done == 0:
            self.context = self.context.fork()
        return Row(self.context, piece, retain=not last, hold=self.hold)

    def accept(self, row: Row, answer: Surprisal) -> bool:
        """Take the answer to a piece; True when the probe is complete."""
        self.answers.append(answer)
        self.done += len(row.probe)
        if row.retain:
            self.context.extend(row.probe)
        return self.complete

    @property
    def complete(self) -> bool:
        return self.done == len(self.probe)

    @property
    def answer(self) -> Surprisal:
        return self.answers[0] if len(self.answers) == 1 else np.concatenate([_NOTHING, *self.answers])


@dataclass(slots=True, eq=False)
class _Running(Generic[T]):
    """A program that waits for answers."""

    index: int
    program: Program[T]
    size: int
    jobs: list[_Job] = field(default_factory=list)
    open: int = 0


class Engine(Generic[T]):
    """Drives programs over a scorer.

    At most `max_programs` are alive, and no more than fit `scorer.live_tokens` together, so memory is bounded however
    many programs there are. `memory` keeps answers for other engines of the same scorer. `_read` holds the keys and
    values of contexts by what was read, so that a program finds those of one that read the same before it.
    """

    def __init__(self, scorer: Scorer, max_programs: int = 256, memory: Memory | None = None) -> None:
        self._scorer = scorer
        self._max_programs = max_programs
        self._memory = memory if memory is not None else Memory()
        self._read: Store[Any] = Store(scorer.live_tokens // 16)
        self._asked: dict[Hashable, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._ahead = ahead_of(scorer)
        self._flying: deque[tuple[_Batch, Answers]] = deque()
        self._finished: dict[int, T | PromptError] = {}
        self._live: dict[int, int] = {}

    def run(self, programs: Iterable[tuple[Program[T], int]]) -> Iterator[T | PromptError]:
        """Yield the result of each program, in order; a program that raised PromptError yields that error.

        programs   pairs of a program and the number of tokens its context may grow to; pulled as room allows
        """
        source = enumerate(programs)
        pending = next(source, None)
        emitted = 0
        while pending is not None or self._live or self._finished:
            while pending is not None and self._has_room(pending[1][1], pending[0] - emitted):
                index, (program, size) = pending
                self._start(_Running(index, program, min(size, self._scorer.window)))
                pending = next(source, None)
            if self._waiting or self._flying:
                self._step()
            while emitted in self._finished:
                yield self._finished.pop(emitted)
                emitted += 1

    def _has_room(self, size: int, ahead: int) -> bool:
        if ahead >= self._max_programs:
            return False
        return not self._live or sum(self._live.values()) + min(size, self._scorer.window) <= self._scorer.live_tokens

    def _start(self, running: _Running[T]) -> None:
        self._live[running.index] = running.size
        self._resume(running, None)

    def _resume(self, running: _Running[T], answers: list[Surprisal] | None) -> None:
        try:
            scores = running.program.send(answers) if answers is not None else next(running.program)
            jobs = [self._job(score) for score in scores]
            while all(job.complete for job in jobs):
                jobs = [self._job(score) for score in running.program.send([job.answer for job in jobs])]
        except StopIteration as stop:
            self._finish(running, stop.value)
        except PromptError as error:
            self._finish(running, error)
        else:
            self._enqueue(running, jobs)

    def _finish(self, running: _Running[T], result: T | PromptError) -> None:
        self._finished[running.index] = result
        del self._live[running.index]

    def _job(self, score: Score) -> _Job:
        """A new job; the same one, if its answer is already known or on its way."""
        context, window = score.context, self._scorer.window
        context.extend(score.commit, score.reuse)
        job = _Job(context, score.probe, hold=score.reuse is not None)
        if job.complete or job.hold or not self._memory.enabled:
            return job
        context.make_room(min(len(score.probe), stretch_of(self._scorer.probe_tokens, window)), window)
        before, context.asked = context.asked, context.key()
        job.key = (context.asked, digest_of(score.probe))
        known = self._memory.get(job.key)
        if known is not None:
            job.answers, job.done = [known], len(job.probe)
        elif job.key in self._asked:
            return self._asked[job.key]
        else:
            self._asked[job.key] = job
            self._catch_up(context, before)
        return job

    def _catch_up(self, context: Context, before: bytes) -> None:
        """Borrow the keys and values of a context that read the same, now or at its last request, if it has more."""
        for key in (context.asked, before):
            cache = self._read.get(key)
            if cache is not None and (context.cache is None or cache.length > context.cache.length):
                context.cache = cache.fork()
                return

    def _enqueue(self, running: _Running[T], jobs: list[_Job]) -> None:
        running.jobs = jobs
        asked = [job for job in jobs if not job.complete]
        running.open = len(asked)
        for job in asked:
            if not job.waiting:
                self._waiting.append(job)
            job.waiting.append(running)

    def _step(self) -> None:
        """Begin as many batches as may be under way, then take the answers of the oldest."""
        while self._waiting and len(self._flying) <= self._ahead and self._launch():
            pass
        if self._flying:
            self._land()

    def _launch(self) -> bool:
        batch = self._next_batch()
        try:
            self._flying.append((batch, start(self._scorer, [row for _, row in batch])))
        except OutOfMemoryError:
            self._shrink(batch)
            return False
        return True

    def _land(self) -> None:
        """Take a batch's answers and resume every program whose answers are complete."""
        batch, answers = self._flying.popleft()
        try:
            found = answers()
        except OutOfMemoryError:
            self._shrink(batch)
            return
        for (job, row), answer in zip(batch, found, strict=True):
            if job.accept(row, answer):
                self._answered(job)
            else:
                self._waiting.appendleft(job)

    def _answered(self, job: _Job) -> None:
        if job.key is not None:
            self._memory.put(job.key, job.answer)
            del self._asked[job.key]
            self._shelve(job.asked)
        for running in job.waiting:
            running.open -= 1
            if running.open == 0:
                self._resume(running, [one.answer for one in running.jobs])

    def _shelve(self, context: Context) -> None:
        """Let others read on from here, until this context itself has read on."""
        self._read.drop(context.shelved)
        if context.cache is not None:
            context.shelved = context.asked
            self._read.put(context.shelved, context.cache.fork(), len(context))

    def _next_batch(self) -> _Batch:
        budget = self._budget()
        batch: _Batch = []
        while self._waiting:
            job = self._waiting[0]
            row = job.row(self._scorer.probe_tokens, self._scorer.window)
            cost = len(row.probe) + len(row.context) - self._scorer.cached(row.context)
            if batch and cost > budget:
                break
            self._waiting.popleft()
            batch.append((job, row))
            budget -= cost
        return batch

    def _budget(self) -> int:
        """Tokens of the next batch. A first one leaves half of the work to a second, so that two can take turns."""
        full = self._scorer.batch_tokens
        if not self._ahead or self._flying:
            return full
        waiting = sum(len(job.probe) - job.done for job in self._waiting)
        return min(full, max(full // 4, waiting // 2))

    def _shrink(self, batch: _Batch) -> None:
        """Halve the batches for good and ask again, after what is under way: that may hold the memory."""
        if self._scorer.batch_tokens <= 1 and not self._flying:
            raise ModelError("out of memory with a single token in the batch: the device is too small for this model")
        tokens = sum(len(row.probe) + len(row.context) - self._scorer.cached(row.context) for _, row in batch)
        self._scorer.batch_tokens = max(1, min(self._scorer.batch_tokens, tokens) // 2)
        self._read.clear()
        self._waiting.extendleft(job for job, _ in reversed(batch))


def stretch_of(room: int, window: int) -> int:
    """Probe tokens before which a context makes room once."""
    return max(1, room, window // 2)


_NOTHING: Surprisal = np.zeros(0, np.float32)
