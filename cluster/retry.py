"""`Backlog`: which shard goes to which worker next, and what a failure means for it.

Shards that failed for a passing reason come back after a growing pause, a limited number of times. Suspects (shards
that ended their worker) come back last and without read-ahead, so that nobody else is charged with a crash; one that
goes on ending workers is searched for poison rows (`cluster.poison`) and then run once more without them. A shard that
cannot be brought to an end is given up; the rest of the run goes on. No I/O, no clock of its own, no Ray.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.messages import SUSPICIOUS, Assignment, Failure, PoisonRow, ShardReport
from cluster.poison import Hunt
from cluster.shards import Shard

MAX_HUNTS = 2
LOSSES_PER_SUSPICION = 5
"""A lost node says nothing about the shard it held; one that so many nodes were lost with may have ended them."""


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
    hunts: int = 0
    not_before: float = 0.0
    hunt: Hunt | None = None
    poison: tuple[PoisonRow, ...] = ()


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
        self._cases: dict[str, _Case] = {}
        self.given_up: dict[str, Failure] = {}
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        """Shards that wait for a worker."""
        return len(self._fresh) + len(self._retries) + len(self._suspects) + len(self._promised)

    def take(self, worker: str, now: float) -> Assignment | None:
        """The next assignment for an idle worker, or None when nothing can be handed out at this moment."""
        shard = self._regular(worker, now)
        if shard is not None:
            return self._assignment(shard, self._promise(worker))
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
        case = self._case(assignment)
        case.losses = 0
        if case.hunt is not None:
            case.hunt.survived(report.counts.rows)
            self._go_on_hunting(assignment.shard, case)

    def failed(self, assignment: Assignment, failure: Failure, now: float) -> None:
        """Decide what a failure that is not fatal means: again later, a suspect, a search for poison, or the end."""
        self.reasons[failure.reason] += 1
        case = self._case(assignment)
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
        if assignment.probe is not None and case.hunt is not None:
            case.hunt.killed(failure)
            self._go_on_hunting(assignment.shard, case, failure)
        elif case.kills < self.policy.max_attempts:
            self._suspects.append(assignment.shard)
        elif case.hunts < MAX_HUNTS:
            case.hunts += 1
            case.hunt = Hunt()
            self._suspects.append(assignment.shard)
        else:
            self.given_up[assignment.shard.name] = failure

    def _go_on_hunting(self, shard: Shard, case: _Case, failure: Failure | None = None) -> None:
        hunt = case.hunt
        if hunt is None:
            return
        if hunt.gave_up is not None:
            kind, reason = (failure.kind, failure.reason) if failure else ("died", "died")
            self.given_up[shard.name] = Failure(kind, reason, hunt.gave_up)
            return
        if hunt.next_probe() is None:
            case.poison, case.hunt = (*case.poison, *hunt.poison), None
        self._suspects.append(shard)

    def _assignment(self, shard: Shard, upcoming: Shard | None) -> Assignment:
        case = self._cases.get(shard.name)
        if case is None:
            return Assignment(shard, upcoming)
        if case.hunt is None:
            return Assignment(shard, upcoming, poison=case.poison)
        return Assignment(shard, None, case.hunt.next_probe(), (*case.poison, *case.hunt.poison))

    def _regular(self, worker: str, now: float) -> Shard | None:
        if worker in self._promised:
            return self._promised.pop(worker)
        retry = self._due(self._retries, now)
        if retry is not None:
            return retry
        if self._fresh:
            return self._fresh.popleft()
        return self._promised.popitem()[1] if self._promised else None

    def _promise(self, worker: str) -> Shard | None:
        if self._fresh:
            self._promised[worker] = self._fresh.popleft()
        return self._promised.get(worker)

    def _due(self, queue: deque[Shard], now: float) -> Shard | None:
        for shard in queue:
            if self._cases[shard.name].not_before <= now:
                queue.remove(shard)
                return shard
        return None

    def _case(self, assignment: Assignment) -> _Case:
        return self._cases.setdefault(assignment.shard.name, _Case())
