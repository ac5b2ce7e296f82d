"""The two training jobs, to be tested alike, and a program that kills one of them at a known moment.

    python -m tests.jobs.training.both JOB MOMENT FLAG…

MOMENT is the number of a training step, or the end of the name of a file: the process is gone after the one, before the
other. It prints the steps that it does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cluster.storage import Storage
from jobs import align, distill
from jobs.training.align_settings import AlignConfig
from jobs.training.distill_settings import DistillConfig
from jobs.training.progress import Progress
from jobs.training.settings import TrainingConfig
from tests.jobs.training import distill_runs, rows


@dataclass(frozen=True, slots=True)
class Job:
    """A job, its settings and the arguments of a short run of it."""

    module: ModuleType
    config: type[TrainingConfig]
    flags: Callable[..., list[str]]

    def run(self, folder: Path, output: str = "out", **others: Any) -> dict[str, Any]:
        """Run it to the end in this process; what it says of itself."""
        assert self.module.main(self.flags(folder, output, **others)) == 0
        return rows.result_of(folder, output)


JOBS = {
    "align": Job(align, AlignConfig, rows.flags),
    "distill": Job(distill, DistillConfig, distill_runs.flags),
}


def kill_at(moment: str) -> None:
    """Let this process be killed when it comes to `moment`."""
    tell, create = Progress.tell, Storage.create

    def telling(self: Progress, done: int, total: int, **values: float) -> None:
        tell(self, done, total, **values)
        if "loss" in values:
            print(f"step {done}", flush=True)
            _die_if(str(done) == moment)

    def creating(self: Storage, url: str, data: bytes | Path) -> bool:
        _die_if(url.endswith(moment))
        return create(self, url, data)

    Progress.tell, Storage.create = telling, creating  # type: ignore[method-assign]


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    kill_at(sys.argv[2])
    sys.exit(JOBS[sys.argv[1]].module.main(sys.argv[3:]))
