"""`UnitRunner`: a `cluster.protocols.Runner` over units of an evaluation; it runs inside an actor and knows no Ray.

A unit that ends its worker is searched for the row that does it, like any shard of the main job: such a row is set
aside with its reason, and its neighbours are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from cluster.messages import Assignment, Beat, Failure, PoisonRow, ShardReport
from cluster.parts import Counts
from cluster.worker import failure_of
from jobs.evaluation.files import EvalLedger
from jobs.evaluation.grid import Stage, Unit, Wave
from jobs.evaluation.measured import REJECTED, Measured
from jobs.evaluation.rows import EvalRow
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.work import AskWork, CompressWork, MakeTarget, Work, make_target


def start_runner(config: EvalConfig, wave: Wave, make: MakeTarget = make_target) -> UnitRunner:
    """A worker for the units of a wave."""
    ledger = EvalLedger(config.output, config.storage_options)
    return UnitRunner(wave.units, ledger, _work(wave.stage, config, ledger, make))


def _work(stage: Stage, config: EvalConfig, ledger: EvalLedger, make: MakeTarget) -> Work:
    return CompressWork(config, ledger) if stage == "compress" else AskWork(config, ledger, make)


class UnitRunner:
    """One unit at a time; models stay loaded between them."""

    def __init__(self, units: Sequence[Unit], ledger: EvalLedger, work: Work) -> None:
        self._units = {unit.name: unit for unit in units}
        self._ledger, self._work = ledger, work
        self._rows: tuple[str, list[EvalRow]] = "", []
        self._done = 0

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        """`run`, with its failure as a value."""
        try:
            return self.run(assignment)
        except Exception as error:
            return failure_of(error)

    def beat(self) -> Beat:
        """How far the unit at hand is; may be asked from another thread."""
        return Beat(self._done, self._done)

    def close(self) -> None:
        """End what was started for the units."""
        self._work.close()

    def run(self, assignment: Assignment) -> ShardReport:
        """Measure a unit and commit its file; a probe only measures. Raises what went wrong."""
        started = time.perf_counter()
        self._done = 0
        unit = self._units[assignment.shard.name]
        rows = self._rows_of(unit.set)[unit.start : unit.stop]
        aside = {one.position: one for one in assignment.poison}
        wanted = [row for position, row in enumerate(rows) if _is_wanted(position, assignment, aside)]
        measured = self._work.measure(unit, wanted, self._tick)
        if assignment.probe is not None:
            return ShardReport(unit.name, "probed", Counts(len(rows)))
        measured += [found for position, one in aside.items() for found in _set_aside(unit, rows[position], one)]
        outcome = self._ledger.commit(unit, measured)
        return ShardReport(unit.name, outcome, _counts(measured), time.perf_counter() - started)

    def _rows_of(self, name: str) -> list[EvalRow]:
        if self._rows[0] != name:
            self._rows = name, self._ledger.rows(name)
        return self._rows[1]

    def _tick(self) -> None:
        self._done += 1


def _is_wanted(position: int, assignment: Assignment, aside: dict[int, PoisonRow]) -> bool:
    return position not in aside and (assignment.probe is None or position in assignment.probe)


def _set_aside(unit: Unit, row: EvalRow, poison: PoisonRow) -> Iterator[Measured]:
    why = {REJECTED: f"{poison.reason}: {poison.detail}"}
    return (Measured(row.id, unit.set, unit.candidate, size, unit.target, {}, why) for size in unit.sizes)


def _counts(measured: Sequence[Measured]) -> Counts:
    """The counts of a unit for the progress: measurements are its rows."""
    rejected = sum(REJECTED in one.texts for one in measured)
    origin, kept = (int(sum(one.values.get(name, 0) for one in measured)) for name in ("origin_tokens", "tokens"))
    return Counts(
        rows=len(measured),
        compressed=len(measured) - rejected,
        rejected=rejected,
        origin_tokens=origin,
        compressed_tokens=kept,
    )
