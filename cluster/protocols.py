"""What the driver knows of the world: a `Pool` of workers and the `Commits` of a ledger; and a pool's `Runner`.

The real ones are `cluster.pool.RayPool`, `cluster.ledger.Ledger` and `cluster.worker.Worker`; the tests have others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from cluster.errors import AbortRun
from cluster.messages import Assignment, Beat, Failure, Finished, ShardReport
from cluster.records import Record


class Runner(Protocol):
    """What runs inside an actor: `cluster.worker.Worker` or a stand-in."""

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

    def close(self) -> None:
        """Stop all workers and whatever else the pool started."""


class NoPool:
    """A pool without workers, for a run that has nothing left to hand out."""

    def size(self) -> int:
        return 0

    def idle(self) -> Sequence[str]:
        return []

    def submit(self, worker: str, assignment: Assignment) -> None:
        raise LookupError(f"there is no worker {worker}")

    def wait(self, timeout: float) -> Sequence[Finished]:
        raise AbortRun("a part that was there a moment ago is not listed any more; start the same command again")

    def beats(self) -> Mapping[str, Beat]:
        return {}

    def end(self, worker: str) -> None:
        raise LookupError(f"there is no worker {worker}")

    def outlook(self) -> str:
        return "none is wanted"

    def close(self) -> None:
        """Nothing was started."""


class Commits(Protocol):
    """What the driver needs of the ledger."""

    def committed(self) -> Collection[str]: ...

    def is_committed(self, shard: str) -> bool: ...

    def records(self) -> Sequence[Record]: ...

    def require_sizes(self, records: Iterable[Record]) -> None: ...
