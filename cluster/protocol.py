"""What driver and workers say to each other, and what the driver knows of the world.

An `Assignment` goes out, a `ShardReport` or a `Failure` comes back: small frozen records of plain values; prompts and
text never travel. Failures travel as values, not as exceptions, so that nothing has to be pickled that a worker's
libraries may have raised. The driver knows a `Pool` of workers and the `Commits` of a ledger, a pool knows a `Runner`.
The real ones are `cluster.run.pool.RayPool`, `cluster.output.ledger.Ledger` and `cluster.run.worker.Worker`; the tests
have others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cluster.input.shards import Shard
from cluster.output.records import Counts, Statistics
from lingua.prompt import Rejected

FailureKind = Literal["transient", "lost", "died", "stalled", "crashed", "fatal"]
"""What a failure means for its shard.

transient   storage hiccup, time-out: try again later, a limited number of times
lost        the node went away: nothing is known against the shard, try again elsewhere
died        the worker's process ended while it held the shard: a suspect
stalled     no row was done for `shard_timeout` seconds and the worker was ended: a suspect
crashed     an exception that nobody expected: a suspect
fatal       going on is pointless (settings, permissions, a full disk, a changed input): the run ends
"""

SUSPICIOUS: frozenset[FailureKind] = frozenset(("died", "stalled", "crashed"))


@dataclass(frozen=True, slots=True)
class Assignment:
    """One shard for one worker."""

    shard: Shard
    upcoming: Shard | None = None  # the shard that the worker will probably get next: it may read ahead
    # compress only the rows at these positions in the shard and commit nothing (of none: only count the rows)
    probe: range | None = None
    # position of a row that ends every worker that compresses it → why it is rejected, unseen by the model
    poison: Mapping[int, Rejected] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of one shard: the counts of its rows and the seconds that they took.

    outcome   ``committed``, ``already`` (an earlier attempt had committed it), or ``probed``: nothing was written, and
              `counts.rows` is how many rows the whole shard has
    packing   how its models run, such as why one runs row by row
    """

    shard: str
    outcome: Literal["committed", "already", "probed"]
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    packing: tuple[str, ...] = ()


@dataclass(slots=True)
class Beat:
    """How far a worker is in its current shard: rows read, rows done, and of these the rejected ones by reason."""

    read: int = 0
    done: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    example: str = ""  # the first of them, with its number in the file


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an assignment did not end well: `reason` is short and countable, `detail` a sentence for people."""

    kind: FailureKind
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an assignment on a worker."""

    worker: str
    assignment: Assignment
    result: ShardReport | Failure


class Runner(Protocol):
    """What runs inside an actor: `cluster.run.worker.Worker` or a stand-in."""

    def attempt(self, assignment: Assignment) -> ShardReport | Failure: ...

    def beat(self) -> Beat: ...


MakeRunner = Callable[[], Runner]


class Pool(Protocol):
    """Workers that come and go. Each is known by a name and holds one assignment at a time."""

    def size(self) -> int:
        """Workers that are ready or busy."""

    def idle(self) -> Sequence[str]:
        """Workers that are ready for an assignment."""

    def submit(self, worker: str, assignment: Assignment) -> None:
        """Give an idle worker something to do."""

    def wait(self, timeout: float) -> Sequence[Finished]:
        """What ended; returns early when something did. Replaces dead workers and looks for new machines.

        Raises AbortRun when workers cannot be started at all.
        """

    def beats(self) -> Mapping[str, Beat]:
        """The newest sign of life of every busy worker."""

    def end(self, worker: str) -> None:
        """Kill a worker that hangs; its assignment is forgotten, another worker takes its place."""

    def outlook(self) -> str:
        """In words, what the pool is waiting for while it has no worker."""


class Commits(Protocol):
    """What the driver needs of the ledger."""

    def committed(self) -> Collection[str]: ...

    def is_committed(self, shard: str) -> bool: ...

    def recorded(self, retried: Collection[str]) -> Statistics: ...
