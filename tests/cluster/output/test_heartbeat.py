"""The heartbeat of a lease."""

from __future__ import annotations

import threading

from cluster.errors import AbortRun, RetryShard
from cluster.output.lease import heartbeat
from cluster.stopping import StopRequest


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
