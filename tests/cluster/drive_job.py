"""`jobs.compress` as a program of its own that starts in a second: workers in its own process instead of Ray's.

Everything else is the job's: settings, plan, lease with its heartbeat, signals, driver, real workers, commits. A prompt
takes as many seconds as the environment says in PAUSE.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from types import ModuleType

from cluster.config import JobConfig
from cluster.placement import ResourceRequest
from jobs.compress import main
from lingua.prompt import Outcome, Prompt
from tests.fakes import FakeCompressor
from tests.pools import Clock, InProcessPool, Runner


class Paced(FakeCompressor):
    """A compressor that takes its time."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        for outcome in super().stream(prompts):
            time.sleep(float(os.environ.get("PAUSE", "0.01")))
            yield outcome


def paced(config: JobConfig) -> Paced:
    return Paced(config.model, config.compression)


def in_process(make: Callable[[], Runner], request: ResourceRequest) -> InProcessPool:
    return InProcessPool(make(), Clock(), 2)


def leave_ray_out() -> None:
    """Put a stand-in where the job looks for its pool."""
    stand_in = ModuleType("cluster.run.pool")
    stand_in.__dict__.update(RayPool=in_process, RayMetrics=lambda run: None, session=nullcontext)
    sys.modules["cluster.run.pool"] = stand_in


if __name__ == "__main__":
    leave_ray_out()
    sys.exit(main(make_compressor=paced))
