"""The units of an evaluation and the files that make it resumable: sets × candidates × targets, in chunks of rows.

A unit without a target compresses its rows once at every size and measures what is left; one with a target lets it read
what the unit before left. A unit commits one file under its own name:

_plan.json              the identity: settings, models, rows; an output with another identity is refused
_rows/<set>.jsonl       the chosen rows in the unified form, which the workers read
measured/<unit>.jsonl   a finished unit, there whole or not at all
summary.json, summary.md, report.html    the results, written at the end
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, groupby, product
from typing import Any, Literal, TypeVar

from cluster.errors import DamagedFile
from cluster.input.shards import Shard, Source, parsed
from cluster.output.folder import RunFolder
from cluster.output.records import Statistics
from cluster.storage.local import TEMPORARY
from cluster.storage.storage import below
from jobs import require_packages
from jobs.evaluation.rows import CONTEXT, REFERENCES, EvalRow, Measured, as_lines
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import QUESTION, Candidate, TargetSpec, told_of
from lingua.engine.score import Needs
from lingua.errors import ConfigError
from lingua.methods import models_digest
from lingua.methods.ranking import ranking_model
from lingua.models.source import resolve

Sizes = tuple[float | None, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows [start, stop) of a set under one candidate at all `sizes` (None: a reference, which has none)."""

    set: str
    candidate: str
    target: str  # who is asked; "" where rows are compressed
    start: int
    stop: int
    sizes: Sizes = (None,)

    @property
    def name(self) -> str:
        """Of its file: none of the three names holds a dot."""
        return ".".join(filter(None, (self.set, self.candidate, self.target, f"{self.start:06d}-{self.stop:06d}")))

    @property
    def compressed(self) -> Unit:
        return replace(self, target="")

    def shard(self) -> Shard:
        source = Source(f"{self.set}, {self.candidate}", 0, "", "jsonl")
        return Shard(self.name, source, self.start, self.stop, self.start, self.stop - self.start)


Wave = Sequence[Unit]
"""Units that may run side by side, once all earlier waves are committed."""


def waves(config: EvalConfig, rows: Mapping[str, int]) -> list[Wave]:
    """All units; `rows` is the number of rows of each set.

    What the peer keeps is known before the others start if they are to keep as much.
    """
    starts = [(name, count, start) for name, count in rows.items() for start in range(0, count, config.chunk)]
    chunks = [(name, start, min(start + config.chunk, count)) for name, count, start in starts]

    def units(candidates: Iterable[Candidate], target: str = "") -> Iterator[Unit]:
        for (name, start, stop), one in product(chunks, candidates):
            yield Unit(name, one.name, target, start, stop, (None,) if one.name in REFERENCES else config.sizes)

    first = [one for one in config.candidates if config.match_peer and one.kind == "peer"]
    others = [one for one in config.all_candidates if one not in first]
    asked = [unit for target in config.targets for unit in units(config.all_candidates, target.name)]
    return [wave for wave in (list(units(first)), list(units(others)), asked) if wave]


def needs_in(config: EvalConfig, wave: Wave) -> list[Needs]:
    """What the units of a wave compute with."""
    named = {unit.target or unit.candidate for unit in wave}
    computing: Sequence[Candidate | TargetSpec] = config.targets if wave[0].target else config.all_candidates
    return [one.needs for one in computing if one.name in named]


AT_ONCE = 16
ENDING = ".jsonl"
ROWS, MEASURED = "_rows", "measured"


class EvalLedger(RunFolder):
    """The run folder of an evaluation; to the driver, `cluster.protocol.Commits`."""

    def __init__(self, output: str, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(output, "jobs.evaluate", storage_options)
        self._left: dict[Unit, set[tuple[str, float | None]]] = {}

    def store(self, sets: Mapping[str, Sequence[EvalRow]]) -> None:
        """Keep the chosen rows, which the workers read."""
        for name, rows in sets.items():
            if not self.create(f"{ROWS}/{name}{ENDING}", as_lines(rows)):
                raise self._damaged(f"{ROWS}/{name}{ENDING}", "it holds other rows")

    def rows(self, name: str) -> list[EvalRow]:
        return self._lines(f"{ROWS}/{name}{ENDING}", EvalRow)

    def committed(self) -> Collection[str]:
        names = self.names(MEASURED)
        return {name.removesuffix(ENDING) for name in names if name.endswith(ENDING) and not name.startswith(TEMPORARY)}

    def is_committed(self, shard: str) -> bool:
        return self.exists(_file_of(shard))

    def recorded(self, retried: Collection[str]) -> Statistics:
        """Units have no records: what they hold is their own count."""
        return Statistics()

    def commit(self, unit: Unit, measured: Iterable[Measured]) -> Literal["committed", "already"]:
        """Publish what a unit measured, all or nothing. ``already``: another attempt's file was there before."""
        return "committed" if self.create(_file_of(unit.name), as_lines(measured)) else "already"

    def unit(self, unit: Unit) -> list[Measured]:
        """What a finished unit measured. DamagedFile where that is not all of it."""
        measured = self._lines(_file_of(unit.name), Measured)
        if unit.target:
            if unit.compressed not in self._left:
                self.unit(unit.compressed)
            missing = len(self._left[unit.compressed] - {(one.row, one.rate) for one in measured})
        else:
            self._left[unit] = {(one.row, one.rate) for one in measured if CONTEXT in one.texts}
            missing = (unit.stop - unit.start) * len(unit.sizes) - len(measured)
        if missing > 0:
            raise self._damaged(_file_of(unit.name), f"{missing} of its lines are missing")
        return measured

    def measured(self, units: Iterable[Unit]) -> Iterator[Measured]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _, wave in groupby(units, lambda unit: unit.target):  # what a target was asked is read before, and once
                yield from chain.from_iterable(threads.map(self.unit, wave))

    def _lines(self, name: str, kind: type[T]) -> list[T]:
        """The values in a file, one a line. DamagedFile where these are not what was written."""
        try:
            return [parsed(kind, line, "a row") for line in self.read(name).splitlines()]
        except ValueError as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, why: object) -> DamagedFile:
        return DamagedFile(f"{below(self.url, name)} is damaged ({why}); delete it, and start again")

    def clean(self) -> None:
        """Remove what dead attempts left. Only for the holder of the lease."""
        self.remove_temporary("", MEASURED, ROWS)


def _file_of(unit: str) -> str:
    return f"{MEASURED}/{unit}{ENDING}"


PLAIN = ("dtype", "tokenizer", "match_peer", "ask", "chunk")


def identify(config: EvalConfig, sets: Mapping[str, Sequence[EvalRow]]) -> dict[str, Any]:
    """What decides the results of an evaluation, by name. ModelError when one of its models cannot be found."""
    settings = {**config.model_dump(mode="json", include=set(PLAIN)), "sizes": list(config.sizes)}
    if "generate" in config.ask or any(target.remote for target in config.targets):
        settings |= config.model_dump(mode="json", include={"max_tokens", "stop"})
    digests = {name: hashlib.sha256(as_lines(rows)).hexdigest()[:16] for name, rows in sets.items()}
    settings |= {f"set {name}": f"{len(rows)} rows, {digests[name]}" for name, rows in sets.items()}
    settings |= {f"candidate {one.name}": _candidate(one, config) for one in config.candidates}
    settings |= {f"target {one.name}": _target(one, config) for one in config.targets}
    return {**settings, "model_digest": resolve(config.model).digest}


def _candidate(candidate: Candidate, config: EvalConfig) -> dict[str, Any]:
    known = candidate.identity()
    if candidate.kind == "config":
        known["digest"] = models_digest(resolve(candidate.model or config.model), candidate.config())
    if candidate.kind == "sentences" and (model := ranking_model(candidate.settings[QUESTION])):
        known["digest"] = resolve(model).digest
    return known


def _target(target: TargetSpec, config: EvalConfig) -> dict[str, Any]:
    """An endpoint is known by where it is: what runs behind it cannot be seen."""
    if not target.remote:
        own = {name: target.settings[name] for name in ("model", "dtype") if name in target.settings}
        return {**own, "digest": resolve(str(target.settings["model"])).digest}
    _require_usable(target, config)
    return {name: target.settings[name] for name in ("url", "model", "mode") if name in target.settings}


def _require_usable(target: TargetSpec, config: EvalConfig) -> None:
    """ConfigError for an endpoint that could not be asked, before anything starts."""
    require_packages("eval", "openai")
    from jobs.endpoint import EndpointSettings

    with told_of("target", target.name):
        settings = EndpointSettings(**target.settings)
        if (settings.max_requests or settings.max_tokens) and config.workers is None:
            raise ConfigError("its budget is parted among the workers; say how many: --workers 1")
