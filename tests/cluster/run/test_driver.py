"""The driver against an in-process pool: every way in which a shard can fail, in milliseconds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cluster.errors import AbortRun
from cluster.protocol import Assignment, Beat
from cluster.report.statistics import RunReport
from cluster.report.telemetry import Snapshot
from cluster.run.driver import Driver, RejectCeiling, Terms
from cluster.run.retry import RetryPolicy
from cluster.stopping import StopRequest
from tests.cluster.corpora import MemoryLedger, NumberRunner, shards
from tests.pools import Clock, Fate, Fates, InProcessPool, always_finish


@dataclass
class Notes:
    """Progress that remembers."""

    snapshots: list[Snapshot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Stage:
    """A driver with everything around it."""

    fates: Fates = always_finish
    runner: NumberRunner = field(default_factory=lambda: NumberRunner(MemoryLedger()))
    terms: Terms = field(default_factory=lambda: Terms(shard_timeout=100, retry=RetryPolicy(max_attempts=3)))
    workers: int = 3
    stop: StopRequest = field(default_factory=StopRequest)
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.pool = InProcessPool(self.runner, self.clock, self.workers, self.fates)

    @property
    def ledger(self) -> MemoryLedger:
        return self.runner.ledger

    def run(self, count: int = 8) -> RunReport:
        driver = Driver(self.ledger, self.pool, self.terms, stop=self.stop, clock=self.clock)
        return driver.run(shards(count), self.notes)


def once(fate: Fate, name: str = "part-00003", times: int = 1) -> Fates:
    """`fate` for the first `times` attempts at one shard, a good end for everything else."""
    seen: Counter[str] = Counter()

    def decide(worker: str, assignment: Assignment) -> Fate:
        seen[assignment.shard.name] += 1
        return fate if assignment.shard.name == name and seen[name] <= times else "finish"

    return decide


def test_every_planned_shard_is_committed_once() -> None:
    stage = Stage()
    report = stage.run(50)
    assert report.complete
    assert sorted(stage.ledger.parts) == [shard.name for shard in shards(50)]
    assert (report.total.rows, report.total.shards) == (50 * 64, 50)
    assert len(stage.pool.log) == 50


def test_what_is_committed_is_not_run_again_and_still_counted() -> None:
    stage = Stage()
    stage.run(5)
    again = Stage(runner=stage.runner)
    report = again.run(8)
    assert len(again.pool.log) == 3
    assert (report.total.shards, report.this_run.shards) == (8, 3)


def test_an_output_that_is_complete_needs_no_worker() -> None:
    stage = Stage()
    stage.run(4)
    report = Stage(runner=stage.runner, workers=0).run(4)
    assert report.complete
    assert report.this_run.shards == 0


@pytest.mark.parametrize("fate", ["crash", "crash_after_commit", "stall", "lose_report", "lose_node", "transient"])
def test_a_single_fault_of_any_kind_loses_and_doubles_nothing(fate: Fate) -> None:
    stage = Stage(once(fate))
    report = stage.run()
    assert report.complete
    assert all(rows == tuple(range(64)) for rows in stage.ledger.parts.values())
    assert sum(report.failures.values()) == (0 if fate in ("crash_after_commit", "lose_report") else 1)


def test_transient_failures_are_retried_after_growing_pauses_then_given_up() -> None:
    stage = Stage(once("transient", times=99), terms=Terms(retry=RetryPolicy(max_attempts=4, pause=10)))
    report = stage.run()
    assert not report.complete
    assert list(report.given_up) == ["part-00003"]
    assert report.failures == {"RetryShard": 4}
    assert report.total.shards == 7
    assert stage.clock.now >= 10 + 20 + 40


def test_lost_nodes_are_not_held_against_a_shard() -> None:
    report = Stage(once("lose_node", times=9)).run()
    assert report.complete
    assert report.failures == {"node_lost": 9}


def test_a_row_that_takes_its_machine_with_it_is_found_all_the_same() -> None:
    def fate(worker: str, assignment: Assignment) -> Fate:
        aside = set(assignment.poison)
        shown = assignment.probe is None or 9 in assignment.probe
        return "lose_node" if assignment.shard.name == "part-00002" and shown and 9 not in aside else "finish"

    stage = Stage(fate)
    assert stage.run(4).complete
    assert stage.ledger.set_aside["part-00002"] == {9: "killed_machine"}


def test_a_suspect_comes_back_last_and_without_read_ahead() -> None:
    stage = Stage(once("crash", name="part-00000"))
    stage.run(20)
    assignments = [assignment for _, assignment in stage.pool.log]
    assert assignments[-1].shard.name == "part-00000"
    assert assignments[-1].upcoming is None


def test_poison_rows_are_set_aside_and_their_neighbours_compressed() -> None:
    runner = NumberRunner(MemoryLedger(), rows=1000, poison={"part-00002": {17, 640, 641}, "part-00004": {0}})
    stage = Stage(runner=runner)
    report = stage.run()
    assert report.complete
    assert stage.ledger.set_aside["part-00002"] == dict.fromkeys((17, 640, 641), "killed_worker")
    assert len(stage.ledger.parts["part-00002"]) == 997
    assert len(stage.ledger.parts["part-00004"]) == 999
    assert report.total.rejects == {"killed_worker": 4}


def test_a_row_that_hangs_is_found_by_the_deadline() -> None:
    def fate(worker: str, assignment: Assignment) -> Fate:
        aside = set(assignment.poison)
        shown = assignment.probe is None or 5 in assignment.probe
        return "stall" if assignment.shard.name == "part-00001" and shown and 5 not in aside else "finish"

    stage = Stage(fate)
    report = stage.run(3)
    assert report.complete
    assert stage.ledger.set_aside["part-00001"] == {5: "stalled_worker"}
    assert len(stage.pool.ended) == stage.notes.notes.__len__()


def test_a_shard_that_cannot_even_be_read_is_given_up_and_the_rest_goes_on() -> None:
    report = Stage(runner=NumberRunner(MemoryLedger(), unreadable=["part-00002"])).run()
    assert list(report.given_up) == ["part-00002"]
    assert "reading it" in report.given_up["part-00002"].detail
    assert report.total.shards == 7


def test_a_fatal_failure_ends_the_run_at_once_and_commits_stay() -> None:
    stage = Stage(once("fatal", name="part-00004"), workers=1)
    with pytest.raises(AbortRun, match="no space left"):
        stage.run()
    assert sorted(stage.ledger.parts) == [f"part-0000{number}" for number in range(4)]


@pytest.mark.parametrize("ceiling", [RejectCeiling(rows=9), RejectCeiling(share=0.01)])
def test_too_many_rejected_rows_end_the_run(ceiling: RejectCeiling) -> None:
    bad = {shard.name: {1, 2} for shard in shards(40)}
    stage = Stage(runner=NumberRunner(MemoryLedger(), bad=bad), terms=Terms(ceiling=ceiling))
    report = stage.run(40)
    assert report.refused
    assert re.search(r"rejected.*raise max_rejected", report.stopped or "")
    assert 0 < len(stage.ledger.parts) < 40


def test_a_run_that_the_ceiling_ends_leaves_what_it_did() -> None:
    bad = {shard.name: {1, 2} for shard in shards(40)}
    stage = Stage(runner=NumberRunner(MemoryLedger(), bad=bad), terms=Terms(ceiling=RejectCeiling(rows=9)))
    report = stage.run(40)
    assert (report.planned, report.total.shards, report.total.rejected) == (40, 5, 10)
    assert report.refused
    assert not report.complete


@pytest.mark.parametrize(
    ("ceiling", "beat", "ends"),
    [
        (RejectCeiling(rows=9), Beat(20, 20, Counter({"bad": 10}), "row 3: it is bad"), True),
        (RejectCeiling(rows=9), Beat(20, 20, Counter({"bad": 9}), "row 3: it is bad"), False),
        (RejectCeiling(), Beat(1000, 1000, Counter({"bad": 1000}), "row 3: it is bad"), True),
        (RejectCeiling(), Beat(1000, 999, Counter({"bad": 999}), "row 3: it is bad"), False),
        (RejectCeiling(), Beat(1000, 1000, Counter({"bad": 500}), "row 3: it is bad"), False),
        (RejectCeiling(share=1.0), Beat(1000, 1000, Counter({"bad": 1000}), "row 3: it is bad"), False),
    ],
)
def test_a_shard_is_not_done_to_its_end_when_its_worker_tells_too_many_rejected_rows(
    ceiling: RejectCeiling, beat: Beat, ends: bool
) -> None:
    fates = once("stall", "part-00000")
    stage = Stage(fates, workers=1, terms=Terms(ceiling=ceiling, shard_timeout=5, retry=RetryPolicy(1)))
    stage.pool.beats = lambda: {"w0": beat}  # type: ignore[method-assign]
    if not ends:
        assert stage.run(4).total.rejected == 0
        return
    assert re.search(r"most of them for bad.*\(row 3: it is bad\)", stage.run(4).stopped or "")


def test_a_ceiling_that_is_kept_changes_nothing() -> None:
    bad = {shard.name: {1} for shard in shards(8)}
    runner = NumberRunner(MemoryLedger(), bad=bad)
    assert Stage(runner=runner, terms=Terms(ceiling=RejectCeiling(rows=8))).run().complete


def test_a_resumed_run_counts_the_earlier_rejects_against_the_ceiling() -> None:
    bad = {shard.name: {1, 2} for shard in shards(8)}
    stage = Stage(runner=NumberRunner(MemoryLedger(), bad=bad))
    stage.run(4)
    report = Stage(runner=stage.runner, terms=Terms(ceiling=RejectCeiling(rows=7))).run(8)
    assert "8 rows are rejected" in (report.stopped or "")


def stop_at(stop: StopRequest, attempt: int, then: Fate = "finish") -> Fates:
    seen = 0

    def decide(worker: str, assignment: Assignment) -> Fate:
        nonlocal seen
        seen += 1
        if seen == attempt:
            stop.ask("SIGTERM", 143)
        return then if seen >= attempt else "finish"

    return decide


def test_a_stopped_run_finishes_what_is_in_flight_and_hands_out_nothing_new() -> None:
    stop = StopRequest()
    stage = Stage(stop_at(stop, 4), stop=stop)
    report = stage.run(30)
    assert report.stopped == "SIGTERM"
    assert not report.complete
    assert len(stage.pool.log) == len(stage.ledger.parts) == 6


def test_a_stopped_run_abandons_what_outlasts_the_grace_time() -> None:
    stop = StopRequest()
    stage = Stage(stop_at(stop, 4, "stall"), stop=stop, terms=Terms(grace=2.0))
    report = stage.run(30)
    assert report.stopped == "SIGTERM"
    assert len(stage.ledger.parts) == 3
    assert stage.clock.now < 4


def test_workers_that_join_are_used_and_waiting_is_told() -> None:
    stage = Stage(workers=0)
    stage.terms = Terms(tick=10.0)
    stage.pool.late_workers = 2
    assert stage.run(6).complete
    assert {worker for worker, _ in stage.pool.log} == {"w0", "w1"}
    assert "waiting for a worker: nobody is there" in stage.notes.notes


def test_progress_ends_with_all_shards_done() -> None:
    stage = Stage(once("crash_after_commit"))
    stage.run(9)
    last = stage.notes.snapshots[-1]
    assert (last.done, last.planned) == (9, 9)
    assert [snapshot.done for snapshot in stage.notes.snapshots] == sorted(s.done for s in stage.notes.snapshots)


@pytest.mark.parametrize("make", [lambda: once("crash", times=2), lambda: once("stall", times=2)])
def test_the_worker_that_failed_leaves_its_promised_shard_to_others(make: Callable[[], Fates]) -> None:
    stage = Stage(make(), workers=1)
    assert stage.run(12).complete
    assert len(stage.ledger.parts) == 12
