"""What a worker does with a unit: `CompressWork` compresses contexts, `AskWork` asks a target about what is left.

`UnitRunner` is a `cluster.protocol.Runner` over units; it runs inside an actor and knows no Ray. If a unit kills its
worker, the row that does it is found by bisection, like in the main job: the row is set aside with its reason, and its
neighbours are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from cluster.output.records import Counts
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from cluster.run.worker import failure_of
from jobs.evaluation.candidates import Wanted, Workbench, budget_of, whole
from jobs.evaluation.ledger import EvalLedger, Unit, Wave
from jobs.evaluation.rows import EvalRow, kept_values, template_of
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import Target, TargetSpec
from jobs.evaluation.summary import CONTEXT, OUTPUT, REJECTED, Measured
from jobs.generation import answered
from lingua.budget.fidelity import Original
from lingua.errors import PromptError
from lingua.models.source import resolve
from lingua.prompt import Rejected

AT_ONCE = 16
"""Prompts that a target is given together."""
Tick = Callable[[], None]
MakeTarget = Callable[[TargetSpec, EvalConfig], Target]


class CompressWork:
    """The stage ``compress``: every row at every size, and what is left of it without asking anyone."""

    def __init__(self, config: EvalConfig, ledger: EvalLedger) -> None:
        self._config, self._ledger = config, ledger
        self._bench = Workbench(config)
        self._candidates = {one.name: one for one in config.all_candidates}

    def measure(self, unit: Unit, rows: Sequence[EvalRow], tick: Tick) -> list[Measured]:
        candidate = self._candidates[unit.candidate]
        tokens = [self._bench.counter.count(whole(row)) for row in rows]
        originals = [self._bench.original(row) for row in rows]
        found = list[Measured]()
        for size in unit.sizes:
            wanted = list(self._wanted(unit, rows, tokens, size))
            for one, original, left in zip(wanted, originals, self._bench.compress(candidate, wanted), strict=True):
                known = Measured(one.row.id, unit.set, candidate.name, size, "", {})
                found.append(self._measured(known, one, original, left))
                tick()
        return found

    def close(self) -> None:
        self._bench.close()

    def _wanted(
        self, unit: Unit, rows: Sequence[EvalRow], tokens: Sequence[int], size: float | None
    ) -> Iterator[Wanted]:
        matched = self._config.match_peer and unit.candidate not in self._config.peers
        kept = self._kept_by_peer(unit, size) if matched and size is not None else {}
        for row, all_of_it in zip(rows, tokens, strict=True):
            budget = all_of_it if size is None else kept.get(row.id, budget_of(size, all_of_it))
            yield Wanted(row, all_of_it, budget, size)

    def _kept_by_peer(self, unit: Unit, size: float) -> dict[str, int]:
        """Tokens that the peer kept of each row, where it did not fail."""
        (peer,) = self._config.peers
        measured = self._ledger.read(replace(unit, candidate=peer).name)
        return {one.row: int(one.values["tokens"]) for one in measured if one.rate == size and "tokens" in one.values}

    def _measured(self, known: Measured, wanted: Wanted, original: Original, left: str | Rejected) -> Measured:
        """`known` with what a candidate left of a context."""
        if isinstance(left, Rejected):
            return replace(known, texts={REJECTED: f"{left.reason}: {left.detail}"})
        tokens, size = self._bench.counter.count(left), max(1, wanted.tokens)
        values = {
            "tokens": tokens,
            "origin_tokens": wanted.tokens,
            "asked": (tokens if known.rate is None else wanted.budget) / size,
            "kept": tokens / size,
            **kept_values(wanted.row, original, left),
        }
        return replace(known, values=values, texts={CONTEXT: left})


Question = tuple[Measured, EvalRow, str]
"""What is known of a compressed row, the row, and its prompt."""


class AskWork:
    """The stage ``ask``: what a target makes of every prompt. One target is loaded at a time."""

    def __init__(self, config: EvalConfig, ledger: EvalLedger, make: MakeTarget) -> None:
        self._config, self._ledger, self._make = config, ledger, make
        self._specs = {spec.name: spec for spec in config.targets}
        self._target: Target | None = None

    def measure(self, unit: Unit, rows: Sequence[EvalRow], tick: Tick) -> list[Measured]:
        target = self._hold(unit.target)
        questions = list(self._questions(unit, {row.id: row for row in rows}))
        found = list[Measured]()
        for start in range(0, len(questions), AT_ONCE):
            found += answered(questions[start : start + AT_ONCE], partial(self._asked, target), _refused)
            tick()
        return found

    def close(self) -> None:
        self._target = None

    def _questions(self, unit: Unit, rows: Mapping[str, EvalRow]) -> Iterator[Question]:
        for left in self._ledger.read(unit.compressed.name):
            if left.row in rows and CONTEXT in left.texts:
                row = rows[left.row]
                known = replace(left, target=unit.target, values={}, texts={})
                yield known, row, template_of(row).prompt(row, [left.texts[CONTEXT]])

    def _hold(self, name: str) -> Target:
        """The target of this name; the one before is let go first."""
        if self._target is None or self._target.name != name:
            self._target = None
            self._target = self._make(self._specs[name], self._config)
        return self._target

    def _asked(self, target: Target, questions: Sequence[Question]) -> list[Measured]:
        known, rows, prompts = zip(*questions, strict=True)
        asks = self._config.ask or (("nll",) if target.scores else ("generate",))
        values: list[dict[str, float]] = [{} for _ in rows]
        texts: list[dict[str, str]] = [{} for _ in rows]
        if "nll" in asks and target.scores:
            values = [{"nll": value} for value in lowest_nll(target, list(zip(rows, prompts, strict=True)))]
        if "generate" in asks:
            from jobs.evaluation.metrics import textual  # its libraries are only needed where text is generated

            replies = target.generate(prompts, self._config.max_tokens, self._config.stop)
            named = [replace(row, set=str(row.meta.get("set", row.set))) for row in rows]
            values = [{**one, **textual(row, reply)} for one, row, reply in zip(values, named, replies, strict=True)]
            texts = [{OUTPUT: reply} for reply in replies]
        return [replace(one, values=value, texts=text) for one, value, text in zip(known, values, texts, strict=True)]


def _refused(question: Question, error: PromptError) -> Measured:
    return replace(question[0], texts={REJECTED: f"{error.reason}: {error.detail}"})


def lowest_nll(target: Target, asked: Sequence[tuple[EvalRow, str]]) -> list[float]:
    """For each row and prompt −ln p of the right answer that comes easiest, in nats."""
    prompts, answers, sizes = list[str](), list[str](), list[int]()
    for row, prompt in asked:
        template = template_of(row)
        scored = template.scored(row)
        prompts += [prompt + template.bridge] * len(scored)
        answers += scored
        sizes.append(len(scored))
    values = iter(target.nll(prompts, answers))
    return [min(islice(values, size)) for size in sizes]


def make_target(spec: TargetSpec, config: EvalConfig) -> Target:
    """A model in this process, or an endpoint. Raises ModelError, ConfigError."""
    if spec.remote:
        return _endpoint(spec, config)
    from jobs.evaluation.local_target import LocalTarget  # torch is loaded where models run
    from lingua.models.load import Loader
    from lingua.models.sizing import Allowance

    device, dtype = (str(spec.settings.get(name, getattr(config, name))) for name in ("device", "dtype"))
    loader = Loader(resolve(str(spec.settings["model"])), device, dtype)
    return LocalTarget(spec.name, loader, Allowance(share=config.gpu_memory, card=config.gpu_share))


def _endpoint(spec: TargetSpec, config: EvalConfig) -> Target:
    """An endpoint whose answers are kept beside the results, with this worker's part of its budget."""
    from jobs.endpoint import Budget, Endpoint, EndpointSettings

    kept = {"cache": f"{config.output}/_answers", "storage_options": config.storage_options}
    settings = EndpointSettings(**{**kept, **spec.settings})
    endpoint = Endpoint(settings, Budget(settings.max_requests, settings.max_tokens).split(config.workers or 1))
    endpoint.name = spec.name
    return endpoint


def start_runner(config: EvalConfig, wave: Wave, make: MakeTarget = make_target) -> UnitRunner:
    ledger = EvalLedger(config.output, config.storage_options)
    work = CompressWork(config, ledger) if wave.stage == "compress" else AskWork(config, ledger, make)
    return UnitRunner(wave.units, ledger, work)


class UnitRunner:
    """One unit at a time; models stay loaded between them."""

    def __init__(self, units: Sequence[Unit], ledger: EvalLedger, work: CompressWork | AskWork) -> None:
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
        self._work.close()

    def run(self, assignment: Assignment) -> ShardReport:
        """Measure a unit and commit its file; a probe only measures. Raises what went wrong."""
        started = time.perf_counter()
        self._done = 0
        unit = self._units[assignment.shard.name]
        rows = self._rows_of(unit.set)[unit.start : unit.stop]
        aside = assignment.poison
        wanted = [
            row
            for position, row in enumerate(rows)
            if position not in aside and (assignment.probe is None or position in assignment.probe)
        ]
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


def _set_aside(unit: Unit, row: EvalRow, poison: Rejected) -> Iterator[Measured]:
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
