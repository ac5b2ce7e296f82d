"""The pool on a real local Ray: actors that die, hang and cannot start; what listens; metrics as Prometheus reads them.

Workers that cannot start come first: the pool that all other tests share takes every processor once it is asked for.
"""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from cluster.errors import AbortRun
from cluster.output.records import Counts
from cluster.placement import ResourceRequest
from cluster.protocol import Assignment, Failure, Finished, ShardReport
from cluster.report.telemetry import METRICS
from cluster.run.driver import Driver, Terms
from cluster.run.pool import RayMetrics, RayPool, _Actor, session
from cluster.run.retry import RetryPolicy
from cluster.stopping import StopRequest
from tests.cluster import actors
from tests.cluster.corpora import FarLedger, named, shards
from tests.cluster.metrics import exported

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def listening() -> Iterator[set[tuple[str, str]]]:
    """What a local Ray has opened."""
    before = _listening()
    with session():
        yield _listening() - before
    assert not ray.is_initialized()


def _listening() -> set[tuple[str, str]]:
    """Process and address of what this process and its children listen on."""
    own = psutil.Process()
    return {
        (process.name(), connection.laddr.ip)
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runners leave who they are."""
    return tmp_path_factory.mktemp("pids")


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[RayPool]:
    two = RayPool(partial(actors.ScriptedRunner, folder), ResourceRequest(shards=8, workers=2, cpus_per_worker=1))
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


def test_no_process_of_a_local_session_listens_beyond_loopback(listening: set[tuple[str, str]]) -> None:
    assert {"gcs_server", "raylet"} <= {process for process, _ in listening}
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not [name for name in os.environ if name.startswith("RAY_ENABLE")]


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


def test_an_assignment_ends_with_its_report(pool: RayPool) -> None:
    assert run_one(pool, "part-1") == ShardReport("part-1", "committed", Counts(16))


def test_a_worker_computes_with_the_processors_it_occupies(pool: RayPool) -> None:
    result = run_one(pool, "threads")
    assert isinstance(result, ShardReport)
    assert result.counts.rows == 1


def test_a_killed_actor_is_told_and_replaced(pool: RayPool, folder: Path) -> None:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named("hang-killed")))
    os.kill(pid_of(folder, "hang-killed"), signal.SIGKILL)
    failure = end_of(pool, worker).result
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == ("died", "worker_died")
    assert isinstance(run_one(pool, "part-2"), ShardReport)
    assert worker not in pool.idle()


def test_a_hung_worker_is_ended_and_replaced(pool: RayPool, folder: Path) -> None:
    worker = next_idle(pool)
    pool.submit(worker, Assignment(named("hang-ended")))
    pid = pid_of(folder, "hang-ended")
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


def test_a_row_that_ends_its_process_is_found_and_set_aside(pool: RayPool) -> None:
    terms = Terms(retry=RetryPolicy(max_attempts=1))
    work = [named("poison"), *shards(3)]
    ledger = FarLedger(names=[shard.name for shard in work])
    report = Driver(ledger, pool, terms, stop=StopRequest()).run(work)
    assert not report.given_up
    assert report.this_run.rejects == {"killed_worker": 1}
    assert report.this_run.shards == 4


def record_all(metrics: RayMetrics) -> None:
    """Every metric once a second, for longer than Ray waits between two exports."""
    for _ in range(4):
        for metric in METRICS:
            metrics.record(metric, 2.0, **dict.fromkeys(metric.labels, "some"))
        time.sleep(1)


def scraped(wanted: int) -> str:
    """The page that Prometheus reads on this machine, once `wanted` of our metrics are on it."""
    port = ray.nodes()[0]["MetricsExportPort"]
    deadline, text = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            pass
        if len(set(re.findall(r"^ray_lingua_\w+", text, re.MULTILINE))) >= wanted:
            return text
        time.sleep(0.5)
    pytest.fail(f"only these were exported: {re.findall(r'^ray_lingua_.*', text, re.MULTILINE)}")


def test_ray_exports_every_metric_under_its_name_with_run_and_worker() -> None:
    task = ray.remote(num_cpus=0)(record_all).remote(RayMetrics("compressed"))
    text = scraped(len(METRICS))
    ray.get(task)
    for metric in METRICS:
        (line, *_) = re.findall(rf"^{exported(metric)}{{.*", text, re.MULTILINE)
        assert 'run="compressed"' in line
        assert re.search(r'worker="[^"]+:\d+"', line)
        assert all(f'{label}="some"' in line for label in metric.labels)


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
