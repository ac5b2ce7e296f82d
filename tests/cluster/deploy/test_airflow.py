"""The Airflow DAG, built with stand-ins for Airflow's classes; its commands are run by bash with one for Ray."""

from __future__ import annotations

import re
import runpy
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from tests.cluster.deploy.command_lines import compress_arguments
from tests.cluster.deploy.manifests import DEPLOY
from tests.cluster.deploy.stubs import Stubs

FILE = DEPLOY / "airflow" / "compress_corpus.py"


class FakeDag:
    """Takes what a DAG takes; collects its tasks."""

    open: FakeDag

    def __init__(
        self,
        *,
        dag_id: str,
        schedule: str,
        start_date: Any,
        catchup: bool,
        max_active_runs: int,
        default_args: dict[str, Any],
    ) -> None:
        self.dag_id, self.schedule, self.start_date = dag_id, schedule, start_date
        self.catchup, self.max_active_runs, self.default_args = catchup, max_active_runs, default_args
        self.tasks: dict[str, FakeBash] = {}

    def __enter__(self) -> FakeDag:
        FakeDag.open = self
        return self

    def __exit__(self, *exception: object) -> None:
        return


class FakeBash:
    """A task of the open DAG."""

    def __init__(self, *, task_id: str, bash_command: str) -> None:
        self.bash_command = bash_command
        self.next: list[FakeBash] = []
        FakeDag.open.tasks[task_id] = self

    def __rshift__(self, other: FakeBash) -> FakeBash:
        self.next.append(other)
        return other


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> FakeDag:
    """The DAG in the file."""
    parents = "airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"
    for name in parents:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, member, fake in (("airflow.sdk", "DAG", FakeDag), (f"{parents[-1]}.bash", "BashOperator", FakeBash)):
        module = types.ModuleType(name)
        setattr(module, member, fake)
        monkeypatch.setitem(sys.modules, name, module)
    found = runpy.run_path(str(FILE))["dag"]
    assert isinstance(found, FakeDag)
    return found


def test_it_compresses_and_then_verifies_one_run_at_a_time(dag: FakeDag) -> None:
    assert list(dag.tasks) == ["compress", "verify"]
    assert dag.tasks["compress"].next == [dag.tasks["verify"]]
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.start_date.tzinfo is not None


def test_it_only_calls_ray(dag: FakeDag) -> None:
    for task in dag.tasks.values():
        commands = re.findall(r"^(?!id=|wait|trap| |$)\S+ \S+ \S+", task.bash_command, re.MULTILINE)
        assert commands == ["ray job submit"]


def test_a_retry_waits_until_a_dead_drivers_lease_has_run_out(dag: FakeDag) -> None:
    config = JobConfig.load(compress_arguments(dag.tasks["compress"].bash_command)[0], {})
    assert dag.default_args["retries"] >= 1
    assert dag.default_args["retry_delay"].total_seconds() > config.lease_seconds


def test_both_tasks_mean_the_same_output(dag: FakeDag) -> None:
    (arguments,) = re.findall(r"--output (\{?\S+ .*?\}\})", dag.tasks["compress"].bash_command)
    assert dag.tasks["verify"].bash_command.endswith(arguments)


def rendered(dag: FakeDag, task: str) -> str:
    return re.sub(r"\{\{.*?\}\}", "2026-11-22", dag.tasks[task].bash_command)


def test_the_command_submits_the_job_and_hands_on_its_exit_code(dag: FakeDag, tmp_path: Path) -> None:
    stubs = Stubs(tmp_path)
    stubs.add("ray", "exit 1")
    process = stubs.start("bash", "-c", rendered(dag, "compress"))
    assert process.wait(30) == 1
    process.communicate()
    call = stubs.wait_for("ray job submit")
    assert '--runtime-env-json {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}' in call
    assert "--output s3://bucket/compressed/2026-11-22" in call


def test_a_task_that_is_ended_stops_its_own_job(dag: FakeDag, tmp_path: Path) -> None:
    stubs = Stubs(tmp_path)
    stubs.add("ray", "[[ $2 == submit ]] && exec sleep 3; true")
    process = stubs.start("bash", "-c", rendered(dag, "compress"))
    submitted = stubs.wait_for("ray job submit").split()
    process.send_signal(signal.SIGTERM)
    stubs.wait_for(f"ray job stop {submitted[submitted.index('--submission-id') + 1]}")
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
