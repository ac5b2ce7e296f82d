"""A dead driver's lease is waited for and taken over; a living driver is not waited for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.errors import LeaseError
from cluster.output.lease import Lease, LeaseWait
from cluster.output.ledger import Ledger
from tests.cluster.jobs_for_tests import acquire_lease


class Watcher:
    """What `LeaseWait` says and how often it looks; `meanwhile` happens at every look."""

    def __init__(self, meanwhile: object = None) -> None:
        self.said: list[str] = []
        self.looks = 0
        self._meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self.looks += 1
        time.sleep(min(seconds, 0.1))
        if callable(self._meanwhile):
            self._meanwhile()

    def acquire(self, ledger: Ledger, patience: float, wanted: bool = True):  # type: ignore[no-untyped-def]
        wait = LeaseWait(patience, lambda: wanted, self.said.append, self.sleep)
        return Lease.acquire(ledger.storage, ledger.url, "second", 60, wait)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "out"))


def test_a_lease_that_nobody_renews_is_taken_over_when_it_runs_out(ledger: Ledger) -> None:
    dead, watcher = acquire_lease(ledger, "first", 0.6), Watcher()
    lease = watcher.acquire(ledger, patience=10)
    assert time.time() >= dead.holder.expires
    assert (lease.generation, lease.holder.owner) == (2, "second")
    assert len(watcher.said) == 1
    assert "in use by first (process" in watcher.said[0]
    assert watcher.looks > 1


def test_a_driver_that_renews_its_lease_is_not_waited_for(ledger: Ledger) -> None:
    living = acquire_lease(ledger, "first", 30)
    watcher = Watcher(living.renew)
    with pytest.raises(LeaseError, match="in use by first"):
        watcher.acquire(ledger, patience=60)
    assert watcher.looks == 1
    living.renew()


def test_an_output_that_another_took_over_first_is_refused(ledger: Ledger) -> None:
    acquire_lease(ledger, "first", 0.3)

    now = time.time()

    def take() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cluster.output.lease.time.time", lambda: now + 1)
            acquire_lease(ledger, "heir", 30)

    watcher = Watcher(take)
    with pytest.raises(LeaseError, match="in use by heir"):
        watcher.acquire(ledger, patience=60)
    assert watcher.looks == 1


def test_a_driver_that_ends_meanwhile_leaves_the_output_free(ledger: Ledger) -> None:
    first = acquire_lease(ledger, "first", 30)
    assert Watcher(first.release).acquire(ledger, patience=60).holder.owner == "second"


@pytest.mark.parametrize(("patience", "wanted"), [(0, True), (5, True), (60, False)])
def test_nobody_waits_longer_than_asked_or_than_wanted(ledger: Ledger, patience: float, wanted: bool) -> None:
    acquire_lease(ledger, "first", 30)
    watcher = Watcher()
    with pytest.raises(LeaseError, match="runs out"):
        watcher.acquire(ledger, patience, wanted)
    assert (watcher.looks, watcher.said) == (0, [])
