"""What a training job does around its phases: keep others from its output, and put each phase to its workers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from cluster.errors import AbortRun
from cluster.lease import Lease
from cluster.stopping import Heartbeat, StopRequest
from cluster.storage import Storage

if TYPE_CHECKING:
    from jobs.training.place import Place

Work = Callable[[Any, Any], None]
"""What every worker of a phase does, given the job's settings and its `Place`; can be killed and started again."""


class Staffed(Protocol):
    """Settings that say who works. `workers` 0: this process, without Ray."""

    @property
    def workers(self) -> int: ...
    @property
    def cpus_per_worker(self) -> float: ...
    @property
    def gpus_per_worker(self) -> float | None: ...
    @property
    def max_failures(self) -> int: ...
    @property
    def address(self) -> str | None: ...


@contextmanager
def alone(storage: Storage, output: str, job: str, seconds: float) -> Iterator[None]:
    """Hold the output's lease while inside, and give it back also on SIGTERM. LeaseError when another run holds it."""
    stop, lease = StopRequest(), Lease.acquire(storage, output, job, seconds)
    try:
        with _unwinding(), Heartbeat(lease.renew, seconds, stop):
            yield
    finally:
        lease.release()
    if stop.reason:
        raise AbortRun(stop.reason)


@contextmanager
def staff(config: Staffed) -> Iterator[Callable[[Work, int], None]]:
    """A function that runs a phase on at most so many workers and waits; they live while one is inside."""
    if config.workers == 0:
        yield lambda work, _: work(config, _here())
        return
    from cluster.pool import session
    from jobs.training.ray_fit import Resources, Task, fit

    def on_ray(work: Work, most: int) -> None:
        resources = Resources(
            min(most, config.workers), config.cpus_per_worker, config.gpus_per_worker, config.max_failures
        )
        fit(Task(work, config), resources)

    with session(config.address), _unwinding():  # Ray brings a handler of its own, which aborts
        yield on_ray


@contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM ends the process by an exception, so that what is held is given back."""
    caught: list[int] = []

    def unwind(number: int, _: FrameType | None) -> None:
        caught.append(number)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except SystemExit:
        if caught:
            sys.exit(128 + caught[0])  # Ray makes a 1 of it while it waits
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _here() -> Place:
    from jobs.training.place import Place
    from lingua.models.load import choose_device

    return Place(0, 1, choose_device("auto"))
