"""An in-process pool for the driver's tests: its workers crash, stall, lose reports or leave with their node on cue.

Time is a number that `wait` moves forward, so hours pass in milliseconds. A script (`Fates`) says what happens to each
assignment; a runner may also die of its own by raising `Killed`, as a poison row does to a real process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pytest

from cluster.protocol import Assignment, Beat, Failure, Finished, ShardReport

Fate = Literal["finish", "crash", "crash_after_commit", "stall", "lose_report", "lose_node", "transient", "fatal"]
Fates = Callable[[str, Assignment], Fate]


class Killed(BaseException):
    """What ends a process: nothing below the pool may catch it."""


class Runner(Protocol):
    def attempt(self, assignment: Assignment) -> ShardReport | Failure: ...


def always_finish(worker: str, assignment: Assignment) -> Fate:
    return "finish"


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class InProcessPool:
    """`workers` runners in this process. `log` keeps every assignment in the order in which it was handed out."""

    runner: Runner
    clock: Clock
    workers: int = 2
    fates: Fates = always_finish
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    log: list[tuple[str, Assignment]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    closed: bool = False
    late_workers: int = 0
    """Workers that join at the tenth wait."""

    def __post_init__(self) -> None:
        self._names = [f"w{number}" for number in range(self.workers)]
        self._born = self.workers
        self._busy: dict[str, Assignment] = {}
        self._hung: set[str] = set()
        self._waits = 0

    def size(self) -> int:
        return len(self._names)

    def idle(self) -> Sequence[str]:
        return [name for name in self._names if name not in self._busy]

    def submit(self, worker: str, assignment: Assignment) -> None:
        if worker in self._busy or worker not in self._names:
            raise RuntimeError(f"{worker} is not idle")
        self._busy[worker] = assignment
        self.log.append((worker, assignment))

    def wait(self, timeout: float) -> Sequence[Finished]:
        self._waits += 1
        if self._waits == 10:
            self._hire(self.late_workers)
        ready = [name for name in self._busy if name not in self._hung]
        if not ready:
            self.clock.now += timeout
            return []
        self.clock.now += 0.01
        worker = self.chance.choice(ready)
        finished = self._finish(worker, self._busy[worker])
        return [] if finished is None else [finished]

    def beats(self) -> Mapping[str, Beat]:
        return {name: Beat() for name in self._busy}

    def end(self, worker: str) -> None:
        self.ended.append(worker)
        self._die(worker)

    def outlook(self) -> str:
        return "nobody is there"

    def close(self) -> None:
        self.closed = True

    def _finish(self, worker: str, assignment: Assignment) -> Finished | None:
        fate = self.fates(worker, assignment)
        if fate == "stall":
            self._hung.add(worker)
            return None
        try:
            result = self._result(fate, assignment)
        except Killed as death:
            self._die(worker)
            return Finished(worker, assignment, Failure("died", "worker_died", str(death)))
        if result is None:
            self._hung.add(worker)
            return None
        if isinstance(result, Failure) and result.kind == "lost":
            self._die(worker)
        self._busy.pop(worker, None)
        return Finished(worker, assignment, result)

    def _result(self, fate: Fate, assignment: Assignment) -> ShardReport | Failure | None:
        if fate == "crash":
            raise Killed("killed before it began")
        if fate == "lose_node":
            return Failure("lost", "node_lost", "its machine went away")
        if fate == "transient":
            return Failure("transient", "RetryShard", "503 slow down")
        if fate == "fatal":
            return Failure("fatal", "AbortRun", "no space left on the device")
        report = self.runner.attempt(assignment)
        if fate == "crash_after_commit":
            raise Killed("killed after it had committed")
        return None if fate == "lose_report" else report

    def _die(self, worker: str) -> None:
        self._busy.pop(worker, None)
        self._hung.discard(worker)
        self._names.remove(worker)
        self._hire(1)

    def _hire(self, count: int) -> None:
        for _ in range(count):
            self._names.append(f"w{self._born}")
            self._born += 1


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run their workers one by one in this process."""

    def pool(make: Callable[..., Runner], _: object) -> InProcessPool:
        return InProcessPool(make(), Clock(), workers=1)

    monkeypatch.setattr("cluster.run.pool.session", lambda *_: nullcontext())
    monkeypatch.setattr("cluster.run.pool.RayPool", pool)
    monkeypatch.setattr("cluster.run.pool.RayMetrics", lambda _: None)
