"""What passes between the driver and its workers: an `Assignment` goes out, a `ShardReport` or a `Failure` comes back.

All are small frozen records of plain values; prompts and text never travel. Failures travel as values, not as
exceptions, so that nothing has to be pickled that a worker's libraries may have raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cluster.parts import Counts
from cluster.shards import Shard

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
class RowRange:
    """Positions [start, stop) of rows within one shard, counted from 0."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and self.start <= position < self.stop

    def halves(self) -> tuple[RowRange, RowRange]:
        middle = (self.start + self.stop) // 2
        return RowRange(self.start, middle), RowRange(middle, self.stop)


@dataclass(frozen=True, slots=True)
class PoisonRow:
    """A row that ends every worker that compresses it; rejected with `reason`, its neighbours are compressed."""

    position: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One shard for one worker.

    upcoming   the shard that the worker will probably get next: it may read ahead
    probe      compress only these rows and commit nothing (an empty range only counts the rows)
    poison     rows to set aside without showing them to the model
    """

    shard: Shard
    upcoming: Shard | None = None
    probe: RowRange | None = None
    poison: tuple[PoisonRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of one shard: the counts of its rows and the seconds that they took.

    outcome   ``committed``, ``already`` (an earlier attempt had committed it), or ``probed``: nothing was written, and
              `counts.rows` is how many rows the whole shard has
    model     how its models run, such as why one runs row by row
    """

    shard: str
    outcome: Literal["committed", "already", "probed"]
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    model: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """How far a worker is in its current shard: rows read, rows done, and of these the rejected ones by reason.

    example   the first of them, with its number in the file
    """

    read: int = 0
    done: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    example: str = ""


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
