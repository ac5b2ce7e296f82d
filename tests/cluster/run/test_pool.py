"""The pool on a real local Ray with two processors: actors that die, hang and cannot start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun
from cluster.output.records import Counts
from cluster.protocol import Assignment, Failure, Finished, ShardReport
from cluster.run.driver import Driver, Terms
from cluster.run.pool import RayPool, _Actor, session
from cluster.run.resources import ResourceRequest
from cluster.run.retry import RetryPolicy
from cluster.run.stopping import StopRequest
from tests.cluster import actors
from tests.cluster.corpora import FarLedger, named, shards

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with session():
        yield


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RayPool]:
    two = RayPool(partial(actors.ScriptedRunner, tmp_path), ResourceRequest(shards=8, workers=2, cpus_per_worker=1))
    yield two
    two.close()


def next_idle(pool: RayPool) -> str:
    deadline = time.monotonic() + 60
    while not pool.idle():
        assert time.monotonic() < deadline
        pool.wait(0.2)
    return pool.idle()[0]


def end_of(pool: RayPool, worker: str) -> Finished:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for finished in pool.wait(0.2):
            if finished.worker == worker:
                return finished
    raise TimeoutError(worker)


def run_one(pool: RayPool, name: str) -> ShardReport | Failure:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named(name)))
    return end_of(pool, worker).result


def pid_of(folder: Path, name: str) -> int:
    deadline = time.monotonic() + 30
    while not (found := [file for file in folder.glob(f"{name}-*") if file.read_text()]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(found[0].read_text())


def test_an_assignment_ends_with_its_report(pool: RayPool) -> None:
    assert run_one(pool, "part-1") == ShardReport("part-1", "committed", Counts(16))


def test_a_worker_computes_with_the_processors_it_occupies(pool: RayPool) -> None:
    result = run_one(pool, "threads")
    assert isinstance(result, ShardReport)
    assert result.counts.rows == 1


def test_a_killed_actor_is_told_and_replaced(pool: RayPool, tmp_path: Path) -> None:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named("hang")))
    os.kill(pid_of(tmp_path, "hang"), signal.SIGKILL)
    failure = end_of(pool, worker).result
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == ("died", "worker_died")
    assert isinstance(run_one(pool, "part-2"), ShardReport)
    assert worker not in pool.idle()


def test_a_hung_worker_is_ended_and_replaced(pool: RayPool, tmp_path: Path) -> None:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named("hang")))
    pid = pid_of(tmp_path, "hang")
    pool.end(worker)
    assert isinstance(run_one(pool, "part-3"), ShardReport)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_signs_of_life_arrive_while_a_worker_is_busy(pool: RayPool) -> None:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named("slow")))
    seen = set()
    while not pool.wait(0.1):
        seen.add(pool.beats()[worker].done)
    assert len(seen) >= 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (actors.no_model, "model 'nowhere' is not there"),
        (actors.aborts, "belongs to somebody else"),
        (actors.dies_at_birth, "in a row could not be started"),
    ],
)
def test_workers_that_cannot_start_end_the_run_with_the_reason(make: actors.ScriptedRunner, message: str) -> None:
    pool = RayPool(make, ResourceRequest(shards=8, workers=1, cpus_per_worker=1))  # type: ignore[arg-type]
    try:
        with pytest.raises(AbortRun, match=message):
            next_idle(pool)
    finally:
        pool.close()


def test_a_row_that_ends_its_process_is_found_and_set_aside(pool: RayPool) -> None:
    terms = Terms(retry=RetryPolicy(max_attempts=1))
    work = [named("poison"), *shards(3)]
    ledger = FarLedger(names=[shard.name for shard in work])
    report = Driver(ledger, pool, terms, stop=StopRequest()).run(work)
    assert not report.given_up
    assert report.this_run.rejects == {"killed_worker": 1}
    assert report.this_run.shards == 4


def test_a_wish_fits_workers_to_the_machines() -> None:
    assert ResourceRequest(shards=100).shape(gpus=8, cpus=64).workers == 8
    assert ResourceRequest(shards=100, gpus_per_worker=0.5).shape(gpus=2, cpus=16).workers == 4
    assert ResourceRequest(shards=100, gpus_per_worker=1).shape(gpus=0, cpus=16).workers == 1
    two_by_one = ResourceRequest(shards=100).shape(gpus=0, cpus=2)
    assert (two_by_one.workers, two_by_one.threads) == (2, 1)
    one_by_eight = ResourceRequest(shards=1).shape(gpus=0, cpus=8)
    assert (one_by_eight.workers, one_by_eight.threads) == (1, 8)


@pytest.mark.parametrize(("sees", "expected"), [(True, "0,1"), (False, "")])
def test_a_worker_without_a_gpu_can_open_none(sees: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    seen = list[str]()

    def make() -> Any:
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])

    _Actor(make, sees)
    assert seen == [expected]
