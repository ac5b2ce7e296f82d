"""The driver: hands out what is planned and not committed to a pool of workers until every shard is committed.

It knows workers only through the `Pool` protocol and storage only through the ledger, so that every failure path runs
in-process in the tests. What a failure means is decided in `cluster.run.retry`; here it is carried out: retry, end a
stalled worker, give a shard up, or stop the run, also where more rows are rejected than `RejectCeiling` allows. Rows
and text never pass through here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.errors import AbortRun, RetryShard
from cluster.input.shards import Shard
from cluster.output.records import Statistics, counted
from cluster.protocol import Assignment, Beat, Commits, Failure, Finished, Pool, ShardReport
from cluster.report.statistics import RunReport, TooManyRejects
from cluster.report.telemetry import Progress, Snapshot
from cluster.run.retry import Backlog, RetryPolicy
from cluster.stopping import StopRequest

ROWS_BEFORE_A_SHARE_COUNTS = 1000
DEFAULT_SHARE = 0.1
SPARED_ROWS = 10
SECONDS_BETWEEN_NOTES = 30.0


@dataclass(frozen=True, slots=True)
class RejectCeiling:
    """At most `rows` rejected rows, or at most the `share` of all rows but `spared` ones in any case.

    A share is compared once 1,000 rows are done, so that a bad first row does not end a run, and again at the end. By
    default a tenth may be rejected; of a small corpus ten rows, but not all. A share of 1 is no ceiling.
    """

    rows: int | None = None
    share: float | None = DEFAULT_SHARE
    spared: int = 0

    @classmethod
    def of(cls, setting: int | float | None) -> RejectCeiling:
        """From the setting `max_rejected`: an int is a number of rows, a float a share of them."""
        if setting is None:
            return cls(spared=SPARED_ROWS)
        return cls(share=setting) if isinstance(setting, float) else cls(rows=setting, share=None)

    def check_unfinished(self, rejected: int, rows: int, reasons: Mapping[str, int], example: str) -> None:
        """The same of rows of shards that are not done: a number of them counts, of a share only whether it is all.

        These rejects are in no file yet, so an `example` is told.
        """
        try:
            if self.rows is not None or rejected == rows:
                self.check(rejected, rows, reasons, final=False)
        except TooManyRejects as error:
            raise TooManyRejects(f"{error} ({example})" if example else str(error)) from None

    def check(self, rejected: int, rows: int, reasons: Mapping[str, int], *, final: bool) -> None:
        """Raises TooManyRejects, with the most frequent reason, when the ceiling is exceeded."""
        reason = max(reasons, key=lambda name: reasons[name], default=None)
        most = f", most of them for {reason} ({reasons[reason]:,})" if reason else ""
        if self.rows is not None and rejected > self.rows:
            raise TooManyRejects(f"{rejected:,} rows are rejected{most}, max_rejected allows {self.rows:,}; {_REMEDY}")
        if self.share is None or not (final or rows >= ROWS_BEFORE_A_SHARE_COUNTS):
            return
        spared = self.spared if rejected < rows else 0
        if rejected > max(self.share * rows, spared):
            found = f"{rejected:,} of {rows:,} rows ({rejected / rows:.2%}) are rejected{most}"
            raise TooManyRejects(f"{found}, max_rejected allows {self.share:.2%}; {_REMEDY}")


_REMEDY = "look at _rejects/ beside the output, mend the input or raise max_rejected"


@dataclass(frozen=True, slots=True)
class Terms:
    """The conditions of a run; times in seconds."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    ceiling: RejectCeiling = field(default_factory=RejectCeiling)
    shard_timeout: float = 1800.0
    grace: float = 2.0
    tick: float = 0.5


@dataclass(slots=True)
class _Watched:
    """An assignment in flight, the last sign of life of its worker, and when that came."""

    assignment: Assignment
    beat: Beat
    since: float


@dataclass
class Totals:
    """The figures of what is committed: by `earlier` runs, and by `this_run` as its workers report it."""

    ledger: Commits
    done: int = 0  # shards that are committed
    uncounted: int = 0  # those among them whose counts the records alone tell; once these are read, all are `recounted`
    earlier: Statistics = field(default_factory=Statistics)
    this_run: Statistics = field(default_factory=Statistics)
    recounted: Statistics | None = None
    # names of shards whose rejected rows the plan tries again: these rows count once they were
    retried: frozenset[str] = frozenset()
    packing: set[str] = field(default_factory=set)  # how the models run

    @property
    def total(self) -> Statistics:
        """Over every shard that is known to be committed."""
        return self.recounted or self.earlier + self.this_run

    def begin(self, shards: Sequence[Shard]) -> list[Shard]:
        """Count what earlier runs committed of these; the others."""
        committed = self.ledger.committed()
        missing = [shard for shard in shards if shard.name not in committed]
        self.retried = frozenset(shard.retried for shard in shards if shard.retried)
        self.done = len(shards) - len(missing)
        self.earlier = self.ledger.recorded(self.retried) if self.done else self.earlier
        return missing

    def add(self, shard: Shard, report: ShardReport | None) -> None:
        """A shard is committed; None: the report was lost."""
        self.done += 1
        own = report if report and report.outcome == "committed" else None
        if own:
            self.this_run += Statistics.of(own.counts, own.seconds)
            self.packing.update(own.packing)
        self.uncounted += own is None or shard.name in self.retried


@dataclass
class Driver:
    """One run over one output. Use `run`. Without `workers` nothing must be left to hand out."""

    ledger: Commits
    workers: Pool | None
    terms: Terms
    stop: StopRequest = field(kw_only=True)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)

    def __post_init__(self) -> None:
        self._shards: Sequence[Shard] = ()
        self._totals = Totals(self.ledger)
        self._backlog = Backlog((), self.terms.retry)
        self._flying: dict[str, _Watched] = {}
        self._progress = Progress()
        self._started = self._noted = self.clock()

    @property
    def pool(self) -> Pool:
        """The workers. AbortRun without any: what is missing after all was removed by another hand."""
        if self.workers is None:
            raise AbortRun("a part that was there a moment ago is not listed any more; start the same command again")
        return self.workers

    def run(self, shards: Sequence[Shard], progress: Progress | None = None) -> RunReport:
        """Bring every shard to its end, as far as the ceiling allows it.

        Raises AbortRun when going on is pointless; what is committed stays.
        """
        try:
            self._begin(shards, progress or self._progress)
            while (len(self._backlog) or self._flying) and not self.stop.reason:
                self._hand_out()
                self._take_in(self.pool.wait(self.terms.tick))
                self._look_after()
                self._tell()
            if self.stop.reason:
                self._wind_down()
            if not self.stop.reason:
                self._totals.recounted = self.ledger.recorded(self._totals.retried) if self._totals.uncounted else None
                self._require_there()
                self._check(final=True)
            return self._report(self.stop.reason)
        except TooManyRejects as error:
            return self._report(str(error), refused=True)

    def _begin(self, shards: Sequence[Shard], progress: Progress) -> None:
        self._shards, self._progress, self._started = shards, progress, self.clock()
        missing = self._totals.begin(shards)
        self._backlog = Backlog(missing, self.terms.retry)
        self._check(final=not missing)

    def _hand_out(self) -> None:
        for worker in self.pool.idle():
            if (assignment := self._backlog.take(worker, self.clock())) is None:
                return
            self.pool.submit(worker, assignment)
            self._flying[worker] = _Watched(assignment, Beat(), self.clock())

    def _take_in(self, finished: Sequence[Finished]) -> None:
        for end in finished:
            if self._flying.pop(end.worker, None) is None:
                continue
            if isinstance(end.result, Failure):
                self._failed(end.worker, end.assignment, end.result)
                continue
            self._backlog.succeeded(end.assignment, end.result)
            if end.result.outcome != "probed":
                self._totals.add(end.assignment.shard, end.result)
                self._check(final=False)

    def _check(self, *, final: bool) -> None:
        total = self._totals.total
        self.terms.ceiling.check(total.rejected, total.rows, total.rejects, final=final)

    def _failed(self, worker: str, assignment: Assignment, failure: Failure) -> None:
        shard = assignment.shard
        if failure.kind == "fatal":
            raise AbortRun(failure.detail)
        if failure.kind == "crashed":
            self.pool.end(worker)  # after an unexpected error (of CUDA, say) a process may fail for ever
        if failure.kind != "transient":
            self._backlog.forget(worker)
        if failure.kind != "crashed" and assignment.probe is None and self._is_committed(shard):
            self._totals.add(shard, None)  # it had committed
            return
        self._backlog.failed(assignment, failure, self.clock())
        self._progress.note(f"{shard.name} of {shard.source.path} failed ({failure.reason}): {failure.detail}")

    def _is_committed(self, shard: Shard) -> bool:
        try:
            return self.ledger.is_committed(shard.name)
        except RetryShard:
            return False  # it is tried again, which does no harm

    def _look_after(self) -> None:
        """Ask the workers how far they are: end those that stand still; the ceiling may be exceeded within a shard."""
        now, beats = self.clock(), self.pool.beats()
        for worker, watched in list(self._flying.items()):
            beat = beats.get(worker, watched.beat)
            if beat != watched.beat:
                watched.beat, watched.since = beat, now
            elif now - watched.since > self.terms.shard_timeout:
                self._end(worker, watched.assignment)
        flying = [one.beat for one in self._flying.values() if one.assignment.probe is None]
        total = self._totals.total
        reasons = sum((beat.rejects for beat in flying), Counter(total.rejects))
        example = next((beat.example for beat in flying if beat.example), "")
        done = total.rows + sum(beat.done for beat in flying)
        self.terms.ceiling.check_unfinished(reasons.total(), done, reasons, example)

    def _end(self, worker: str, assignment: Assignment) -> None:
        self.pool.end(worker)
        del self._flying[worker]
        detail = f"no row was done for {self.terms.shard_timeout:g} s, so its worker was ended"
        self._failed(worker, assignment, Failure("stalled", "stalled", detail))

    def _wind_down(self) -> None:
        """Nothing new is handed out; what can finish within the grace time may."""
        self._progress.note(f"stopping ({self.stop.reason}): {counted(len(self._flying), 'shard')} in flight")
        deadline = self.clock() + self.terms.grace
        while self._flying and self.clock() < deadline and not self.stop.at_once:
            self._take_in(self.pool.wait(min(self.terms.tick, max(0.0, deadline - self.clock()))))

    def _tell(self) -> None:
        done = self._totals.this_run
        snapshot = Snapshot(
            done=self._totals.done,
            planned=len(self._shards),
            rows=done.rows + sum(watched.beat.done for watched in self._flying.values()),
            origin_tokens=done.origin_tokens,
            compressed_tokens=done.compressed_tokens,
            workers=self.pool.size(),
            failures=sum(self._backlog.reasons.values()),
            seconds=self.clock() - self._started,
            reused_tokens=done.reused_tokens,
        )
        self._progress.update(snapshot)
        if not snapshot.workers and self.clock() - self._noted >= SECONDS_BETWEEN_NOTES:
            self._noted = self.clock()
            self._progress.note(f"waiting for a worker: {self.pool.outlook()}")

    def _require_there(self) -> None:
        """AbortRun unless every shard that was done still is: somebody may have deleted what was committed."""
        known = {*self.ledger.committed(), *self._backlog.given_up}
        unlisted = [shard for shard in self._shards if shard.name not in known]
        if lost := [shard.name for shard in unlisted if not self._is_committed(shard)]:
            raise AbortRun(
                f"{counted(len(lost), 'part')} that had been committed vanished while the run went on ({lost[0]}, …): "
                "the output was changed or deleted by another hand; start the same command again"
            )

    def _report(self, stopped: str | None, *, refused: bool = False) -> RunReport:
        return RunReport(
            planned=len(self._shards),
            total=self._totals.total,
            this_run=self._totals.this_run,
            seconds=self.clock() - self._started,
            failures=dict(self._backlog.reasons),
            given_up=dict(self._backlog.given_up),
            stopped=stopped,
            refused=refused,
            packing=tuple(sorted(self._totals.packing)),
        )
