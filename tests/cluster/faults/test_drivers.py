"""Several drivers, each a process of its own, on one output: who is told what, and that nothing is doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.errors import LeaseError
from cluster.output.ledger import Ledger
from cluster.output.verify import verify
from tests.cluster.jobs_for_tests import acquire_lease
from tests.forks import Fork

ROWS = 240


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [json.dumps({"id": n, "text": f"{n} of many words to cut " * 9}) + "\n" for n in range(ROWS)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "corpus.jsonl"


class Drivers:
    """Processes that run the job on one corpus and one output, all gone at the end."""

    def __init__(self, corpus: Path) -> None:
        self.corpus, self.output = corpus, corpus.parent / "out"
        self.processes: list[Fork] = []

    def start(self, lease_seconds: float, pause: float, rate: float = 0.5) -> Fork:
        settings = {
            "input": self.corpus,
            "output": self.output,
            "model": self.corpus.parent / "model",
            "shard-size": "4KiB",
            "lease-seconds": lease_seconds,
            "rate": rate,
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "tests.cluster.drive_job", *flags]
        environment = {**os.environ, "PAUSE": str(pause)}
        process = Fork(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def parts(self) -> list[Path]:
        return sorted(self.output.glob("part-*"))

    def wait_for_parts(self, count: int) -> None:
        wait_until(lambda: len(self.parts()) >= count)

    def ids(self) -> list[int]:
        return [row for part in self.parts() for row in pq.read_table(part, partitioning=None)["id"].to_pylist()]


@pytest.fixture
def drivers(corpus: Path) -> Iterator[Drivers]:
    some = Drivers(corpus)
    yield some
    some.end()


@pytest.mark.timeout(120)
def test_the_second_is_told_who_and_since_when_and_takes_over_when_the_first_is_dead(drivers: Drivers) -> None:
    first = drivers.start(lease_seconds=6, pause=0.1)
    drivers.wait_for_parts(1)
    second = drivers.start(lease_seconds=2, pause=0)
    (told,) = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"in use by jobs.compress (process {first.pid} on " in told
    assert " since 20" in told
    assert first.poll() is None

    first.kill()
    first.wait()
    committed = len(drivers.parts())
    with pytest.raises(LeaseError, match=rf"process {first.pid} on .*its lease runs out"):
        acquire_lease(Ledger(str(drivers.output)), "third", 2)
    third = drivers.start(lease_seconds=8, pause=0)
    assert "if it died, its lease runs out at 20" in third.communicate(timeout=60)[0]
    assert third.returncode == 0
    assert 0 < committed < len(drivers.parts())
    assert drivers.ids() == list(range(ROWS))
    assert verify(str(drivers.output)).problems == []


@pytest.mark.timeout(240)
def test_drivers_that_are_frozen_and_killed_while_their_leases_run_out_double_nothing(drivers: Drivers) -> None:
    chance = random.Random(4)
    running: list[Fork] = []
    complete = False
    deadline = time.monotonic() + 150
    while not complete:
        assert time.monotonic() < deadline
        complete = any(process.poll() == 0 for process in running)
        running = [process for process in running if process.poll() is None]
        running += [drivers.start(lease_seconds=0.2, pause=0.005) for _ in range(2 - len(running))]
        time.sleep(0.3)
        if not complete:  # else a driver killed at the very end would be taken for one that failed
            strike(chance, running)
    for process in running:  # whoever was frozen wakes up, finds its lease lost or nothing to do, and ends
        process.send_signal(signal.SIGCONT)
    assert all(process.wait(timeout=30) in (0, 1) for process in running)
    assert drivers.ids() == list(range(ROWS))
    audit = verify(str(drivers.output))
    assert (audit.problems, audit.rows) == ([], ROWS)
    assert json.loads((drivers.output / "_stats.json").read_text())["rows"] == ROWS


@pytest.mark.timeout(120)
def test_a_frozen_worker_whose_plan_was_replaced_commits_nothing_when_it_wakes_up(drivers: Drivers) -> None:
    first, plan = drivers.start(lease_seconds=0.5, pause=0.02), drivers.output / "_plan.json"
    wait_until(plan.exists)
    first.send_signal(signal.SIGSTOP)
    assert drivers.parts() == []
    before = plan.read_bytes()
    second = drivers.start(lease_seconds=0.5, pause=0.06, rate=0.25)  # a corrected command: nothing was committed yet
    wait_until(lambda: plan.read_bytes() != before)
    first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=60) == 1
    assert second.wait(timeout=60) == 0
    assert drivers.ids() == list(range(ROWS))
    assert verify(str(drivers.output)).problems == []


def wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def strike(chance: random.Random, running: list[Fork]) -> None:
    """Freeze, wake or kill one of the drivers, or none."""
    signals = [signal.SIGSTOP, signal.SIGCONT, signal.SIGCONT, signal.SIGKILL, None, None, None]
    chosen = chance.choice(signals)
    if chosen is not None and running:
        chance.choice(running).send_signal(chosen)
