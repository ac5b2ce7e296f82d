"""`Backlog`: which shard goes to which worker next, and what a failure means for it. No I/O, no clock, no Ray.

Shards that failed for a passing reason come back after a growing pause, a limited number of times. Suspects (shards
that ended their worker) come back last and without read-ahead, so that nobody else is charged with a crash; one that
goes on ending workers is searched for the rows that do it and then run once more without them. A shard that cannot be
brought to an end is given up; the rest of the run goes on.

A `Bisection` finds those rows by halving the shard, as in delta debugging (Zeller & Hildebrandt 2002). It asks for
probes (`next_probe`) and is told how each ended (`survived`, `killed`). A probe compresses a range of rows and commits
nothing. A half is condemned unseen when the other half of a condemned range survived, but a single row only after it
ended two workers by itself: an accident never costs a healthy row. Known poison is left out of later probes, so that
several poison rows in one shard are found one after the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.input.shards import Shard
from cluster.protocol import SUSPICIOUS, Assignment, Failure, FailureKind, ShardReport
from lingua.prompt import Rejected

CONFIRMATIONS = 2
MAX_POISON_ROWS = 25
COUNTING = range(0)

REASONS: Mapping[FailureKind, str] = {
    "died": "killed_worker",
    "stalled": "stalled_worker",
    "crashed": "crashed_worker",
    "lost": "killed_machine",
}
MAX_BISECTIONS = 2
LOSSES_PER_SUSPICION = 5
"""A lost node says nothing about the shard it held; one that so many nodes were lost with may have ended them."""


@dataclass(slots=True)
class _Suspicion:
    """A range of rows; `condemned`: it must hold poison; `deaths` it caused; `other`: the half not tried yet."""

    rows: range
    condemned: bool
    deaths: int = 0
    other: _Suspicion | None = None


class Bisection:
    """A search for the poison rows of one shard. `gave_up` says in words why it cannot be continued."""

    def __init__(self) -> None:
        self.poison: dict[int, Rejected] = {}
        self.gave_up: str | None = None
        self._open: list[_Suspicion] = []
        self._current: _Suspicion | None = None
        self._counting_deaths = 0
        self._counted = False

    def next_probe(self) -> range | None:
        """The rows to try now, or None when the search is over. Asking again repeats the answer."""
        if self.gave_up is not None:
            return None
        if not self._counted:
            return COUNTING
        if self._current is None:
            self._current = self._choose()
        return self._current.rows if self._current else None

    def survived(self, rows_in_shard: int) -> None:
        """The probe went through; `rows_in_shard` is how many rows the worker saw in the whole shard."""
        if not self._counted:
            self._counted = True
            self._open.append(_Suspicion(range(rows_in_shard), condemned=True))
        self._current = None

    def killed(self, failure: Failure) -> None:
        if not self._counted:
            self._counting_deaths += 1
            if self._counting_deaths >= CONFIRMATIONS:
                self.gave_up = f"reading it, without compressing anything, ends the worker: {failure.detail}"
            return
        suspicion, self._current = self._current, None
        if suspicion is None:
            return
        suspicion.condemned = True
        suspicion.deaths += 1
        if suspicion.other is not None:
            suspicion.other.condemned = False  # this half is guilty: nothing is known about the other any more
        if len(suspicion.rows) > 1 or suspicion.deaths < CONFIRMATIONS:
            self._open.append(suspicion)
            return
        reason = REASONS.get(failure.kind, "killed_worker")
        detail = f"compressing this row alone ended {CONFIRMATIONS} workers: {failure.detail}"
        self.poison[suspicion.rows.start] = Rejected(reason, detail)
        if len(self.poison) >= MAX_POISON_ROWS:
            self.gave_up = f"{MAX_POISON_ROWS} rows of it end their worker; this looks like the machines, not the rows"

    def _choose(self) -> _Suspicion | None:
        while self._open:
            suspicion = self._open.pop()
            if len(suspicion.rows) == 0:
                continue
            if len(suspicion.rows) == 1 or not suspicion.condemned:
                return suspicion
            middle = len(suspicion.rows) // 2
            other = _Suspicion(suspicion.rows[middle:], condemned=True)
            self._open.append(other)
            return _Suspicion(suspicion.rows[:middle], condemned=False, other=other)
        return None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a shard may fail, and the pauses in between: `pause`, doubled each time, at most `longest_pause`."""

    max_attempts: int = 3
    pause: float = 1.0
    longest_pause: float = 60.0

    def wait(self, failures: int) -> float:
        return float(min(self.longest_pause, self.pause * 2 ** min(failures - 1, 30)))


@dataclass(slots=True)
class _Case:
    """What happened to a shard that failed at least once."""

    transient: int = 0
    losses: int = 0
    kills: int = 0
    bisections: int = 0
    not_before: float = 0.0
    bisection: Bisection | None = None
    poison: Mapping[int, Rejected] = field(default_factory=dict)


@dataclass
class Backlog:
    """The shards still to do. Times are seconds of any one clock, handed in by the caller."""

    shards: Iterable[Shard]
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        self._fresh: deque[Shard] = deque(self.shards)
        self._retries: deque[Shard] = deque()
        self._suspects: deque[Shard] = deque()
        self._promised: dict[str, Shard] = {}
        self._cases: dict[str, _Case] = defaultdict(_Case)
        self.given_up: dict[str, Failure] = {}
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._retries) + len(self._suspects) + len(self._promised)

    def take(self, worker: str, now: float) -> Assignment | None:
        """The next assignment for an idle worker, or None when nothing can be handed out at this moment."""
        shard = self._regular(worker, now)
        if shard is not None:
            if self._fresh:
                self._promised[worker] = self._fresh.popleft()
            return self._assignment(shard, self._promised.get(worker))
        suspect = self._due(self._suspects, now)
        return self._assignment(suspect, None) if suspect else None

    def forget(self, worker: str) -> None:
        """The worker is gone: what it was to get next is free again."""
        shard = self._promised.pop(worker, None)
        if shard is not None:
            self._fresh.appendleft(shard)

    def succeeded(self, assignment: Assignment, report: ShardReport) -> None:
        """Take note of a good end; after a probe the shard comes back for the next one."""
        if assignment.probe is None:
            self._cases.pop(assignment.shard.name, None)
            return
        case = self._cases[assignment.shard.name]
        case.losses = 0
        if case.bisection is not None:
            case.bisection.survived(report.counts.rows)
            self._go_on_bisecting(assignment.shard, case)

    def failed(self, assignment: Assignment, failure: Failure, now: float) -> None:
        """Decide what a failure that is not fatal means: again later, a suspect, a search for poison, or the end."""
        self.reasons[failure.reason] += 1
        case = self._cases[assignment.shard.name]
        case.transient += failure.kind == "transient"
        case.losses += failure.kind == "lost"
        if failure.kind in SUSPICIOUS or (failure.kind == "lost" and case.losses % LOSSES_PER_SUSPICION == 0):
            self._suspect(assignment, failure, case)
        elif case.transient >= self.policy.max_attempts:
            self.given_up[assignment.shard.name] = failure
        else:
            case.not_before = now + self.policy.wait(case.transient + case.losses)
            (self._suspects if case.kills else self._retries).append(assignment.shard)

    def _suspect(self, assignment: Assignment, failure: Failure, case: _Case) -> None:
        case.kills += 1
        if assignment.probe is not None and case.bisection is not None:
            case.bisection.killed(failure)
            self._go_on_bisecting(assignment.shard, case, failure)
        elif case.kills < self.policy.max_attempts:
            self._suspects.append(assignment.shard)
        elif case.bisections < MAX_BISECTIONS:
            case.bisections += 1
            case.bisection = Bisection()
            self._suspects.append(assignment.shard)
        else:
            self.given_up[assignment.shard.name] = failure

    def _go_on_bisecting(self, shard: Shard, case: _Case, failure: Failure | None = None) -> None:
        bisection = case.bisection
        if bisection is None:
            return
        if bisection.gave_up is not None:
            kind, reason = (failure.kind, failure.reason) if failure else ("died", "died")
            self.given_up[shard.name] = Failure(kind, reason, bisection.gave_up)
            return
        if bisection.next_probe() is None:
            case.poison, case.bisection = {**case.poison, **bisection.poison}, None
        self._suspects.append(shard)

    def _assignment(self, shard: Shard, upcoming: Shard | None) -> Assignment:
        case = self._cases.get(shard.name)
        if case is None:
            return Assignment(shard, upcoming)
        if case.bisection is None:
            return Assignment(shard, upcoming, poison=case.poison)
        return Assignment(shard, None, case.bisection.next_probe(), {**case.poison, **case.bisection.poison})

    def _regular(self, worker: str, now: float) -> Shard | None:
        if worker in self._promised:
            return self._promised.pop(worker)
        retry = self._due(self._retries, now)
        if retry is not None:
            return retry
        if self._fresh:
            return self._fresh.popleft()
        return self._promised.popitem()[1] if self._promised else None

    def _due(self, queue: deque[Shard], now: float) -> Shard | None:
        for shard in queue:
            if self._cases[shard.name].not_before <= now:
                queue.remove(shard)
                return shard
        return None
