"""Time and memory of a job on corpora of any size, without a model: `python -m tests.cluster.measure_scale …`.

    driver SHARDS   planning, driving and reading back that many small shards, with workers that only commit
    files SHARDS    the same, each shard a file of its own
    parquet ROWS    one real worker and the audit over a Parquet file of 140 KB: rows that share two long strings
    worker MB       one real worker and its driver over so many megabytes of JSON Lines in shards of 1 MiB

Prints one JSON object: processor seconds of each phase, what the driver itself took per shard (milliseconds; what
workers did in between is taken off), and the peak resident memory before and after (MiB). Files live in TMPDIR
meanwhile.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import Counts, Record
from cluster.output.verify import verify
from cluster.protocol import Assignment, ShardReport
from cluster.report.statistics import RunReport
from cluster.run.driver import Driver, Terms
from cluster.run.worker import Worker
from cluster.stopping import StopRequest
from tests.cluster.jobs_for_tests import open_plan
from tests.fakes import FakeCompressor
from tests.pools import Clock, InProcessPool, Runner

TOKEN = "0" * 12
COUNTS = Counts(rows=1, compressed=1, origin_tokens=2, compressed_tokens=1)


@dataclass
class CommitsOnly:
    """A worker that writes what a commit leaves, and nothing else."""

    output: Path
    identity: str
    spent: float = 0.0

    def attempt(self, assignment: Assignment) -> ShardReport:
        started = time.process_time()
        shard = assignment.shard
        record = Record(
            **asdict(COUNTS),
            shard=shard,
            identity=self.identity,
            seconds=0.1,
            part_size=0,
            part_sha256="",
            rejects_sha256=None,
            token=TOKEN,
            committed="",
        )
        (self.output / "_records").mkdir(exist_ok=True)
        (self.output / "_records" / f"{shard.name}.{TOKEN}.json").write_bytes(record.to_bytes())
        (self.output / f"{shard.name}.parquet").touch()
        self.spent += time.process_time() - started
        return ShardReport(shard.name, "committed", COUNTS, 0.1)


class Forgetful(list[Any]):
    """The pool's log of assignments, which a run of this size should not keep."""

    def append(self, item: Any) -> None:
        """Forget it."""


@dataclass
class Measured:
    """Processor seconds by phase, and peak memory in MiB at the beginning."""

    seconds: dict[str, float] = field(default_factory=dict)
    before: int = field(default_factory=lambda: peak())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.seconds[name] = round(time.process_time() - started, 2)


def peak() -> int:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def drive(ledger: Ledger, runner: Runner, plan: Plan) -> RunReport:
    clock = Clock()
    pool = InProcessPool(runner, clock, workers=8, log=Forgetful())
    return Driver(ledger, pool, Terms(), stop=StopRequest(), clock=clock).run(plan.shards)


def measure_driver(folder: Path, shards: int, files: bool) -> dict[str, Any]:
    """What `shards` small shards cost the driver, from planning to the second start that finds nothing to do."""
    corpus, measured = small_rows(folder, shards, files), Measured()
    config = JobConfig(input=str(corpus), output=str(folder / "out"), shard_size=1024, model="none")
    ledger = Ledger(config.output)
    with measured.phase("plan"):
        plan = open_plan(config, "digest", ledger)
    runner = CommitsOnly(Path(config.output), plan.identity.digest())
    with measured.phase("run"):
        report = drive(ledger, runner, plan)
    with measured.phase("clean"):
        ledger.clean()
    with measured.phase("second start"):
        again = drive(ledger, runner, open_plan(config, "digest", ledger))
    if not (report.complete and again.complete and len(plan.shards) == shards):
        raise RuntimeError(f"not complete: {report.summary()}")
    own = sum(measured.seconds[name] for name in ("run", "clean")) - runner.spent
    return {
        "shards": shards,
        "seconds": measured.seconds,
        "driver_ms_per_shard": round(1000 * own / shards, 3),
        "plan_ms_per_shard": round(1000 * measured.seconds["plan"] / shards, 3),
        "mib_before": measured.before,
        "mib_peak": peak(),
    }


def small_rows(folder: Path, count: int, files: bool) -> Path:
    """A corpus that is cut into `count` shards of 1 KiB: one file, or a file for each."""
    lines = (json.dumps({"text": f"{number:09d} {'x' * 1001}"}) + "\n" for number in range(count))
    if not files:
        with (folder / "in.jsonl").open("w") as file:
            file.writelines(lines)
        return folder / "in.jsonl"
    (folder / "in").mkdir()
    for number, line in enumerate(lines):
        (folder / "in" / f"{number:07d}.jsonl").write_text(line[:60] + '"}\n')
    return folder / "in"


def measure_worker(folder: Path, megabytes: int, shard_size: int = 1 << 20) -> dict[str, Any]:
    """What a worker and its driver take in memory for a corpus of any size."""
    line = json.dumps({"text": f"{'long' * 63} words " * 8}) + "\n"
    with (folder / "in.jsonl").open("w") as file:
        for _ in range((megabytes << 20) // len(line)):
            file.write(line)
    measured = Measured()
    config = JobConfig(input=str(folder / "in.jsonl"), output=str(folder / "out"), shard_size=shard_size, model="none")
    ledger = Ledger(config.output)
    with measured.phase("plan"):
        plan = open_plan(config, "digest", ledger)
    with measured.phase("run"):
        report = drive(ledger, Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor()), plan)
    if not report.complete:
        raise RuntimeError(f"not complete: {report.summary()}")
    return {
        "megabytes": megabytes,
        "shards": len(plan.shards),
        "rows": report.total.rows,
        "seconds": measured.seconds,
        "mib_before": measured.before,
        "mib_peak": peak(),
    }


def measure_parquet(folder: Path, rows: int) -> dict[str, Any]:
    """What a worker, its driver and the audit take in memory where rows are far larger than what encodes them."""
    pages = pa.array(["x" * 1_500_000, "y z" * 500_000])
    shared = pa.DictionaryArray.from_arrays(pa.array([row % 2 for row in range(rows)], pa.int32()), pages)
    table = pa.table({"text": [f"row {row} has a few words" for row in range(rows)], "page": shared})
    pq.write_table(table, folder / "in.parquet", dictionary_pagesize_limit=1 << 30, store_schema=False)
    measured = Measured()
    config = JobConfig(input=str(folder / "in.parquet"), output=str(folder / "out"), model="none")
    ledger = Ledger(config.output)
    with measured.phase("plan"):
        plan = open_plan(config, "digest", ledger)
    with measured.phase("run"):
        report = drive(ledger, Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor()), plan)
    mib_worker = peak()
    with measured.phase("verify"):
        audit = verify(config.output)
    if not report.complete or audit.problems:
        raise RuntimeError(f"not complete: {report.summary()} {audit.problems}")
    return {
        "rows": rows,
        "file_kib": (folder / "in.parquet").stat().st_size >> 10,
        "shards": len(plan.shards),
        "seconds": measured.seconds,
        "mib_before": measured.before,
        "mib_worker": mib_worker,
        "mib_peak": peak(),
    }


def main(what: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {"worker": measure_worker, "parquet": measure_parquet}
        result = (
            measures[what](folder, size) if what in measures else measure_driver(folder, size, files=what == "files")
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
