"""Signals, the grace time and the lease's heartbeat."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cluster.errors import AbortRun, RetryShard
from cluster.run.stopping import StopRequest, grace_seconds, heartbeat, on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_a_second_one_at_once(number: signal.Signals) -> None:
    stop = StopRequest()
    before = signal.getsignal(number)
    with on_signals(stop):
        os.kill(os.getpid(), number)
        assert (stop.reason, stop.exit_code, stop.at_once) == (number.name, 128 + number, False)
        os.kill(os.getpid(), number)
        assert stop.at_once
    assert signal.getsignal(number) is before


def test_the_first_reason_counts() -> None:
    stop = StopRequest()
    stop.ask("SIGTERM", 143)
    stop.ask("the lease was lost")
    assert (stop.reason, stop.exit_code) == ("SIGTERM", 143)


def test_the_grace_time_follows_the_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    assert grace_seconds() == 1.0
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "60")
    assert grace_seconds() == 58.0


class Lease:
    """Renewals that fail as told, then an event."""

    def __init__(self, failures: list[Exception | None]) -> None:
        self.failures = failures
        self.calls = 0
        self.exhausted = threading.Event()

    def renew(self) -> None:
        self.calls += 1
        failure = self.failures.pop(0) if self.failures else None
        if not self.failures:
            self.exhausted.set()
        if failure is not None:
            raise failure


def beat(failures: list[Exception | None]) -> StopRequest:
    lease, stop = Lease(failures), StopRequest()
    with heartbeat(lease.renew, 0.02, stop):
        assert lease.exhausted.wait(5)
    return stop


def test_a_lost_lease_stops_the_run() -> None:
    assert "taken over by another" in str(beat([None, AbortRun("taken over by another driver")]).reason)


def test_a_renewal_that_fails_once_is_repeated() -> None:
    assert beat([RetryShard("503"), OSError("reset"), None, None]).reason is None


def test_a_lease_that_cannot_be_renewed_stops_the_run_before_it_runs_out() -> None:
    assert "could not be renewed" in str(beat([RetryShard("503")] * 3).reason)


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with heartbeat(lambda: None, 60, StopRequest()):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
