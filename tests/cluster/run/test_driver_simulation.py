"""A thousand seeded schedules of everything that can go wrong; each must end as the undisturbed run ends.

A schedule draws, for every assignment, whether its worker crashes before or after the commit, hangs, loses its report,
loses its machine or meets a storage fault; at random points the driver itself is killed and another one goes on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cluster.protocol import Assignment, Finished
from cluster.report.statistics import RunReport
from cluster.run.driver import Driver, Terms
from cluster.run.retry import RetryPolicy
from cluster.stopping import StopRequest
from tests.cluster.corpora import MemoryLedger, NumberRunner, shards
from tests.pools import Clock, Fate, InProcessPool

SHARDS = 12
ROWS = 16
RUNS = 40
FAULTS: tuple[Fate, ...] = ("crash", "crash_after_commit", "stall", "lose_report", "lose_node", "transient")


class DriverKilled(BaseException):
    """SIGKILL for the driver: nothing is tidied up."""


@dataclass
class Schedule:
    """What happens in one seed. A single row is never hit by more than one accident: twice would be a conviction."""

    seed: int
    chance: random.Random = field(init=False)
    accidents: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.rate = self.chance.choice([0.05, 0.2, 0.4])
        self.poison = {
            shard.name: set(self.chance.sample(range(ROWS), self.chance.choice([1, 1, 2])))
            for shard in self.chance.sample(shards(SHARDS), self.chance.choice([0, 1, 2]))
        }
        self.bad = {shard.name: {3} for shard in shards(SHARDS)[::4] if 3 not in self.poison.get(shard.name, ())}

    def fate(self, worker: str, assignment: Assignment) -> Fate:
        if self.chance.random() >= self.rate:
            return "finish"
        fault = self.chance.choice(FAULTS)
        probe = assignment.probe
        if probe is not None and len(probe) == 1 and fault != "transient":
            self.accidents[(assignment.shard.name, probe.start)] += 1
            return "finish" if self.accidents[(assignment.shard.name, probe.start)] > 1 else fault
        return fault

    def runner(self, ledger: MemoryLedger) -> NumberRunner:
        return NumberRunner(ledger, ROWS, self.poison, self.bad)


class MortalPool(InProcessPool):
    """A pool whose driver may be killed while it waits."""

    death_rate = 0.0

    def wait(self, timeout: float) -> Sequence[Finished]:
        if self.chance.random() < self.death_rate:
            raise DriverKilled
        return super().wait(timeout)


def run_until_complete(schedule: Schedule) -> tuple[MemoryLedger, RunReport]:
    """Start the job again whenever its driver died or gave something up, as its owner would."""
    ledger = MemoryLedger()
    for attempt in range(RUNS):
        clock = Clock()
        pool = MortalPool(schedule.runner(ledger), clock, 3, schedule.fate, schedule.chance)
        pool.death_rate = 0.02 if attempt < RUNS // 2 else 0.0
        terms = Terms(RetryPolicy(max_attempts=3, pause=0.1), shard_timeout=20)
        try:
            report = Driver(ledger, pool, terms, stop=StopRequest(), clock=clock).run(shards(SHARDS))
        except DriverKilled:
            continue
        if report.complete:
            return ledger, report
    raise TimeoutError(f"seed {schedule.seed} is not complete after {RUNS} runs")


def undisturbed(schedule: Schedule) -> tuple[MemoryLedger, RunReport]:
    ledger, clock = MemoryLedger(), Clock()
    pool = InProcessPool(schedule.runner(ledger), clock, 1)
    return ledger, Driver(ledger, pool, Terms(), stop=StopRequest(), clock=clock).run(shards(SHARDS))


@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_every_schedule_ends_as_the_undisturbed_run(first: int) -> None:
    for seed in range(first, first + 50):
        calm, calm_report = undisturbed(Schedule(seed))
        ledger, report = run_until_complete(Schedule(seed))
        assert ledger.parts == calm.parts, seed
        assert {name: set(rows) for name, rows in ledger.set_aside.items()} == {
            name: set(rows) for name, rows in calm.set_aside.items()
        }, seed
        assert report.total.rows == calm_report.total.rows == SHARDS * ROWS, seed
        assert report.total.compressed + report.total.rejected == SHARDS * ROWS, seed
