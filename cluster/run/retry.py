"""`Backlog`: which shard goes to which worker next, and what a failure means for it. No I/O, no clock, no Ray.

Shards that failed for a passing reason come back after a growing pause, a limited number of times. Suspects (shards
that ended their worker) come back last and without read-ahead, so that nobody else is charged with a crash; one that
goes on ending workers is searched for the rows that do it and then run once more without them. A shard that cannot be
brought to an end is given up; the rest of the run goes on.

A `Bisection` finds those rows by halving the shard, as in delta debugging (Zeller & Hildebrandt 2002). It asks for
probes (`next_probe`) and is told how each `ended`. A probe compresses a range of rows and commits nothing. A half is
condemned unseen when the other half of a condemned range survived, but a single row only after it ended two workers by
itself: an accident never costs a healthy row. Known poison is left out of later probes, so that several poison rows in
one shard are found one after the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable, Mapping
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

Search = Generator[range, int | Failure, None]
"""Yields rows to probe; is sent how many rows the shard has where the worker survived that, else how it ended."""


class Bisection:
    """A search for the poison rows of one shard. `gave_up` says in words why it cannot be continued."""

    def __init__(self) -> None:
        self.poison: dict[int, Rejected] = {}
        self.gave_up: str | None = None
        self._search = self._through_the_shard()
        self._probe: range | None = next(self._search)

    def next_probe(self) -> range | None:
        """The rows to try now, or None when the search is over. Asking again repeats the answer."""
        return None if self.gave_up else self._probe

    def ended(self, answer: int | Failure) -> None:
        """How the probe ended: the rows that the worker saw in the whole shard, or what ended the worker."""
        try:
            self._probe = self._search.send(answer)
        except StopIteration:
            self._probe = None

    def _through_the_shard(self) -> Search:
        answer = yield from _tried(COUNTING, CONFIRMATIONS)
        if isinstance(answer, Failure):
            self.gave_up = f"reading it, without compressing anything, ends the worker: {answer.detail}"
        else:
            yield from self._within(range(answer))

    def _within(self, rows: range, failure: Failure | None = None) -> Search:
        """Through rows that must hold poison: they ended a worker by this `failure`, or what is beside them did not."""
        if not (half := len(rows) // 2):
            yield from self._alone(rows, failure) if rows else ()
            return
        first = yield rows[:half]
        if isinstance(first, int):
            yield from self._within(rows[half:])
            return
        yield from self._within(rows[:half], first)
        second = yield rows[half:]  # the first half is guilty: nothing is known about this one
        if isinstance(second, Failure):
            yield from self._within(rows[half:], second)

    def _alone(self, row: range, failure: Failure | None) -> Search:
        """A single row is condemned once it has ended so many workers by itself, the first of them by this failure."""
        last = yield from _tried(row, CONFIRMATIONS - (failure is not None))
        if isinstance(last, int):
            return
        detail = f"compressing this row alone ended {CONFIRMATIONS} workers: {last.detail}"
        self.poison[row.start] = Rejected(REASONS.get(last.kind, "killed_worker"), detail)
        if len(self.poison) >= MAX_POISON_ROWS:
            self.gave_up = f"{MAX_POISON_ROWS} rows of it end their worker; this looks like the machines, not the rows"


def _tried(rows: range, times: int) -> Generator[range, int | Failure, int | Failure]:
    """Probes rows until a worker survives them, at most so many times; how the last probe ended."""
    answer = yield rows
    for _ in range(times - 1):
        answer = answer if isinstance(answer, int) else (yield rows)
    return answer


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


class Backlog:
    """The shards still to do. Times are seconds of any one clock, handed in by the caller."""

    def __init__(self, shards: Iterable[Shard], policy: RetryPolicy) -> None:
        self.policy = policy
        self._fresh: deque[Shard] = deque(shards)
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
        if (shard := self._regular(worker, now)) is not None:
            if self._fresh:
                self._promised[worker] = self._fresh.popleft()
            return self._assignment(shard, self._promised.get(worker))
        suspect = self._due(self._suspects, now)
        return self._assignment(suspect, None) if suspect else None

    def forget(self, worker: str) -> None:
        """The worker is gone: what it was to get next is free again."""
        if (shard := self._promised.pop(worker, None)) is not None:
            self._fresh.appendleft(shard)

    def succeeded(self, assignment: Assignment, report: ShardReport) -> None:
        """Take note of a good end; after a probe the shard comes back for the next one."""
        if assignment.probe is None:
            self._cases.pop(assignment.shard.name, None)
            return
        case = self._cases[assignment.shard.name]
        case.losses = 0
        if case.bisection is not None:
            self._bisected(assignment.shard, case, case.bisection, report.counts.rows)

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
            self._bisected(assignment.shard, case, case.bisection, failure)
        elif case.kills < self.policy.max_attempts:
            self._suspects.append(assignment.shard)
        elif case.bisections < MAX_BISECTIONS:
            case.bisections += 1
            case.bisection = Bisection()
            self._suspects.append(assignment.shard)
        else:
            self.given_up[assignment.shard.name] = failure

    def _bisected(self, shard: Shard, case: _Case, bisection: Bisection, answer: int | Failure) -> None:
        """A probe ended: there is another one, the search is over, or it cannot be continued."""
        bisection.ended(answer)
        if bisection.gave_up is not None and isinstance(answer, Failure):
            self.given_up[shard.name] = Failure(answer.kind, answer.reason, bisection.gave_up)
            return
        if bisection.next_probe() is None:
            case.poison, case.bisection = {**case.poison, **bisection.poison}, None
        self._suspects.append(shard)

    def _assignment(self, shard: Shard, upcoming: Shard | None) -> Assignment:
        if (case := self._cases.get(shard.name)) is None:
            return Assignment(shard, upcoming)
        if case.bisection is None:
            return Assignment(shard, upcoming, poison=case.poison)
        return Assignment(shard, None, case.bisection.next_probe(), {**case.poison, **case.bisection.poison})

    def _regular(self, worker: str, now: float) -> Shard | None:
        if worker in self._promised:
            return self._promised.pop(worker)
        if (retry := self._due(self._retries, now)) is not None:
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
