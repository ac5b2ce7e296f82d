"""Runners for actors of a real Ray: they sleep, die and fail as the name of their shard says. Importable by workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import AbortRun
from cluster.output.records import Counts
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from lingua.errors import ModelError


@dataclass
class ScriptedRunner:
    """Says who it is by `pids` (a folder in which each attempt leaves its process id)."""

    pids: Path
    rows: int = 16
    done: int = field(default=0, init=False)

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        (self.pids / f"{assignment.shard.name}-{time.monotonic_ns()}").write_text(str(os.getpid()))
        if "hang" in assignment.shard.name:
            time.sleep(600)
        if "slow" in assignment.shard.name:
            self._work_slowly()
        if "poison" in assignment.shard.name and self._is_shown(assignment, 5):
            os._exit(1)
        if "segfault" in assignment.shard.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "threads" in assignment.shard.name:
            return ShardReport(assignment.shard.name, "committed", Counts(int(os.environ["OMP_NUM_THREADS"])))
        outcome = "committed" if assignment.probe is None else "probed"
        rejects = {why.reason: 1 for why in assignment.poison.values()}
        counts = Counts(self.rows, rejected=len(rejects), rejects=rejects)
        return ShardReport(assignment.shard.name, outcome, counts)

    def beat(self) -> Beat:
        return Beat(self.done, self.done)

    def _work_slowly(self) -> None:
        for self.done in range(1, 41):
            time.sleep(0.05)

    def _is_shown(self, assignment: Assignment, position: int) -> bool:
        aside = set(assignment.poison)
        return position not in aside and (assignment.probe is None or position in assignment.probe)


def no_model() -> ScriptedRunner:
    raise ModelError("model 'nowhere' is not there; give a hub id, a directory or a GGUF file")


def dies_at_birth() -> ScriptedRunner:
    os._exit(3)


def aborts() -> ScriptedRunner:
    raise AbortRun("the output belongs to somebody else")
