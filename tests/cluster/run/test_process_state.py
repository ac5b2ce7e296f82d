"""What a job changes about its process it gives back: variables, handlers of logs and signals, Ray's own functions."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun
from cluster.output import parts
from cluster.report import telemetry as logs
from cluster.report.telemetry import watched_progress
from cluster.run import pool
from cluster.stopping import StopRequest, exit_code, grace_seconds, on_signals
from cluster.storage.local import Scratch, is_full
from tests.cluster.jobs_for_tests import job, run, write_lines


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    return variables()


@pytest.mark.parametrize("fails", [False, True])
def test_a_session_leaves_the_environment_as_it_was(
    environment: dict[str, str], fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def begin(*_: Any, **__: Any) -> None:
        seen.update(os.environ)
        if fails:
            raise RuntimeError("no room")

    monkeypatch.setattr(pool.ray, "init", begin)
    told = pytest.raises(AbortRun, match="no room; look at") if fails else nullcontext()
    with told, pool.session():
        assert os.environ["RAY_AUTH_TOKEN"] == seen["RAY_AUTH_TOKEN"]
    assert variables() == environment
    assert seen["RAY_USAGE_STATS_ENABLED"] == "1"
    assert seen["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_ray_without_the_private_names_is_used_as_it_is(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import ray_constants, worker

    monkeypatch.delattr(worker, "print_to_stdstream")
    monkeypatch.delattr(ray_constants, "ENABLE_RAY_CLUSTER")
    monkeypatch.setattr(pool.ray, "init", lambda *_, **__: None)
    with pool.session() as fixed:
        assert fixed
    assert not hasattr(worker, "print_to_stdstream")


def test_private_names_of_ray_come_back(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants, worker

    before = worker.print_to_stdstream, ray_constants.ENABLE_RAY_CLUSTER
    monkeypatch.setattr(pool.ray, "init", lambda *_, **__: None)
    with pool.session():
        assert worker.print_to_stdstream is not before[0]
    assert (worker.print_to_stdstream, ray_constants.ENABLE_RAY_CLUSTER) == before


@pytest.mark.parametrize("handled", [False, True])
def test_a_stop_request_while_ray_starts_is_the_jobs_own(
    environment: dict[str, str], handled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import utils

    def begin(*_: Any, **__: Any) -> None:
        utils.set_sigterm_handler(lambda number, _: sys.exit(number))  # as Ray does, before it connects
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pool.ray, "init", begin)
    monkeypatch.setattr(pool.ray, "shutdown", lambda: None)
    stop, before = StopRequest(), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with on_signals(stop) if handled else pytest.raises(SystemExit), pool.session():
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.exit_code == (128 + signal.SIGTERM if handled else 1)


def test_handlers_of_whoever_embeds_the_job_stay() -> None:
    logs.set_up_logs("text", io.StringIO())()  # whatever another test left
    own, stream = logging.StreamHandler(io.StringIO()), io.StringIO()
    before = list(logs.LOGGER.handlers), logs.LOGGER.level, logs.LOGGER.propagate
    logs.LOGGER.addHandler(own)
    try:
        undo = logs.set_up_logs("json", stream)
        logs.set_up_logs("text", stream)
        logs.event("happened", row=3)
        assert stream.getvalue().count("happened") == own.stream.getvalue().count("happened") == 1
        assert logs.LOGGER.propagate == before[2]
        undo()
        assert logs.LOGGER.handlers == [*before[0], own]
        assert logs.LOGGER.level == before[1]
        watched_progress("json").close()
        assert logs.LOGGER.handlers == [*before[0], own]
        logs.LOGGER.setLevel(logging.WARNING)
        logs.set_up_logs("text", stream)()
        assert logs.LOGGER.level == logging.WARNING
    finally:
        logs.LOGGER.removeHandler(own)
        logs.LOGGER.setLevel(before[1])


def test_signals_are_given_back_and_are_left_alone_in_a_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_signals(StopRequest()):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    found = []

    def inside() -> None:
        with on_signals(StopRequest()):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [before]


@pytest.mark.parametrize(("value", "seconds"), [("30", 28.0), ("soon", 1.0), ("nan", 1.0), ("inf", 3600.0)])
def test_a_grace_that_is_no_number_is_rays_own(value: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", value)
    assert grace_seconds() == seconds


class FullDisk(Scratch):
    """A folder in which nothing can be written."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("part", "rejects"):
            (self.path / name).symlink_to("/dev/full")


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("rows", [3, 3_000])
def test_a_full_disk_for_unfinished_parts_is_told_as_that(
    output_format: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "Scratch", FullDisk)
    corpus = write_lines(tmp_path / "in.jsonl", [{"text": f"a few words {number} " * 9} for number in range(rows)])
    with pytest.raises(AbortRun, match=r"the disk for unfinished parts is full \(.*free some, name a larger one with"):
        run(job(corpus, tmp_path / "out", output_format=output_format))


def test_a_full_disk_that_ends_a_job_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert exit_code(full) == 1
    assert capsys.readouterr().err.startswith("error: the disk for unfinished parts is full")
    copying = RuntimeError("while copying")
    assert not is_full(copying)
    copying.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_full(copying)
