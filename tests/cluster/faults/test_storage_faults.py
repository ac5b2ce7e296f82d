"""The driver, real workers and the real ledger over a store that fails: before an operation, or after it took effect.

Every write of a worker may raise, or kill the worker or the driver, before or after the file is there. Dozens of
seeds; each must end with the same parts, byte for byte in their rows, as a run over a healthy store.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import RetryShard
from cluster.output.ledger import Ledger
from cluster.run.driver import Driver, Terms
from cluster.run.retry import RetryPolicy
from cluster.run.worker import Worker
from cluster.stopping import StopRequest
from cluster.storage.storage import Storage
from tests.cluster.jobs_for_tests import open_plan
from tests.fakes import REJECT, FakeCompressor
from tests.pools import Clock, InProcessPool, Killed

ROWS = 60
RUNS = 60


class DriverKilled(BaseException):
    """SIGKILL for the driver."""


class Faults:
    """A store's temper: which operation fails, and whether before or after it took effect."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rate = self.chance.choice([0.05, 0.15, 0.3])
        self.on = True

    def strike(self) -> None:
        if self.on and self.chance.random() < self.rate:
            raise self.chance.choice([RetryShard("503 slow down"), Killed("power failure"), DriverKilled()])


class FaultyStorage(Storage):
    """Storage whose writes may fail before or after they took effect, and whose reads may fail."""

    def __init__(self, options: dict[str, Any], faults: Faults) -> None:
        super().__init__(options)
        self._faults = faults

    def create(self, url: str, data: bytes | Path) -> bool:
        self._faults.strike()
        created = super().create(url, data)
        self._faults.strike()
        return created

    def write(self, url: str, data: bytes) -> None:
        self._faults.strike()
        super().write(url, data)
        self._faults.strike()

    def delete(self, url: str) -> None:
        self._faults.strike()
        super().delete(url)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Memory, where there is some: the test writes thousands of small files."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        yield Path(name)


def job(folder: Path, output: str) -> JobConfig:
    corpus = folder / "in.jsonl"
    if not corpus.exists():
        texts = [f"{REJECT} {n}" if n % 17 == 3 else f"row {n} with a few words to cut" for n in range(ROWS)]
        corpus.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)))
    return JobConfig(input=str(corpus), output=str(folder / output), shard_size=1024)


def drive(config: JobConfig, faults: Faults) -> bool:
    """One start of the job; whether it came to its end with everything committed."""
    ledger = Ledger(config.output)
    plan = open_plan(config, "digest", ledger)
    worker = Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor())
    worker._ledger.storage = FaultyStorage({}, faults)
    pool, clock = InProcessPool(worker, Clock(), 2, chance=faults.chance), Clock()
    pool.clock = clock
    terms = Terms(RetryPolicy(max_attempts=3, pause=0.1), shard_timeout=20)
    try:
        ledger.clean()
        return Driver(ledger, pool, terms, stop=StopRequest(), clock=clock).run(plan.shards).complete
    except DriverKilled:
        return False


def content(config: JobConfig) -> dict[str, Any]:
    parts = sorted(Path(config.output).glob("part-*"))
    return {part.name: pq.read_table(part).to_pylist() for part in parts}


def rejects(config: JobConfig) -> list[Any]:
    ledger = Ledger(config.output)
    files = [ledger.rejects_url(record) for record in ledger.records() if record.rejected]
    return [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]


@pytest.mark.parametrize("first", range(0, 50, 10))
def test_no_fault_of_the_store_loses_or_doubles_a_row(folder: Path, first: int) -> None:
    calm = job(folder, "calm")
    quiet = Faults(0)
    quiet.on = False
    assert drive(calm, quiet)
    for seed in range(first, first + 10):
        config, faults = job(folder, f"out-{seed}"), Faults(seed)
        for run in range(RUNS):
            faults.on = run < RUNS // 2
            if drive(config, faults):
                break
        assert content(config) == content(calm), seed
        assert rejects(config) == rejects(calm), seed
        records = Ledger(config.output).records()
        assert sum(record.rows for record in records) == ROWS, seed
