"""What a worker does with a unit: it compresses contexts, or asks a target about what is left of them.

`UnitRunner` is a `cluster.protocol.Runner` over units; it runs inside an actor and knows no Ray. If a unit kills its
worker, the row that does it is found by bisection, like in the main job: the row is set aside with its reason, and its
neighbours are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import islice

from cluster.output.records import Counts
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from cluster.run.worker import failure_of
from jobs.evaluation.candidates import Wanted, Workbench, budget_of, whole
from jobs.evaluation.ledger import EvalLedger, Unit, Wave
from jobs.evaluation.rows import CONTEXT, OUTPUT, REJECTED, EvalRow, Measured, kept_values, template_of
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import Target, TargetSpec
from jobs.generation import answered
from lingua.budget.fidelity import Original
from lingua.errors import PromptError
from lingua.models.source import resolve
from lingua.prompt import Rejected

AT_ONCE = 16
"""Prompts that a target is given together."""
MakeTarget = Callable[[TargetSpec, EvalConfig], Target]
Question = tuple[Measured, EvalRow, str]
"""What is known of a compressed row, the row, and its prompt."""


class UnitRunner:
    """One unit at a time; compressors, and one target at a time, stay loaded between them."""

    def __init__(self, config: EvalConfig, wave: Wave, make: MakeTarget) -> None:
        self._config, self._make = config, make
        self._units = {unit.name: unit for unit in wave}
        self._ledger = EvalLedger(config.output, config.storage_options)
        self._rows = lru_cache(1)(self._ledger.rows)
        self._target: Target | None = None
        self._open = ExitStack()
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
        self._target = None
        self._open.close()

    def run(self, assignment: Assignment) -> ShardReport:
        """Measure a unit and commit its file; a probe only measures. Raises what went wrong."""
        started = time.perf_counter()
        self._done = 0
        unit, aside = self._units[assignment.shard.name], assignment.poison
        rows = self._rows(unit.set)[unit.start : unit.stop]
        asked = range(len(rows)) if assignment.probe is None else assignment.probe
        wanted = [row for position, row in enumerate(rows) if position in asked and position not in aside]
        measured = self.measure(unit, wanted)
        if assignment.probe is not None:
            return ShardReport(unit.name, "probed", Counts(len(rows)))
        for position, poison in aside.items():
            row, why = rows[position].id, _reason(poison)
            measured += [Measured(row, unit.set, unit.candidate, size, unit.target, {}, why) for size in unit.sizes]
        outcome = self._ledger.commit(unit, measured)
        return ShardReport(unit.name, outcome, _counts(measured), time.perf_counter() - started)

    def measure(self, unit: Unit, rows: Sequence[EvalRow]) -> list[Measured]:
        """The measurements of a unit on these of its rows."""
        found = list[Measured]()
        for some in self._asked(unit, rows) if unit.target else self._compressed(unit, rows):
            found += some
            self._done += 1
        return found

    # ---- what is left of a context, without asking anyone

    @cached_property
    def _bench(self) -> Workbench:
        return self._open.enter_context(closing(Workbench(self._config)))

    def _compressed(self, unit: Unit, rows: Sequence[EvalRow]) -> Iterator[list[Measured]]:
        (candidate,) = (one for one in self._config.all_candidates if one.name == unit.candidate)
        tokens = [self._bench.counter.count(whole(row)) for row in rows]
        originals = [self._bench.original(row) for row in rows]
        for size in unit.sizes:
            kept = self._kept_by_peer(unit, size)
            wanted = [
                Wanted(row, count, count if size is None else kept.get(row.id, budget_of(size, count)), size)
                for row, count in zip(rows, tokens, strict=True)
            ]
            for one, original, left in zip(wanted, originals, self._bench.compress(candidate, wanted), strict=True):
                yield [self._left(Measured(one.row.id, unit.set, unit.candidate, size, "", {}), one, original, left)]

    def _kept_by_peer(self, unit: Unit, size: float | None) -> dict[str, int]:
        """Tokens that the peer kept of each row, where the others are to keep as much and it did not fail."""
        if not self._config.match_peer or size is None or unit.candidate in self._config.peers:
            return {}
        (peer,) = self._config.peers
        measured = self._ledger.unit(replace(unit, candidate=peer))
        return {one.row: int(one.values["tokens"]) for one in measured if one.rate == size and "tokens" in one.values}

    def _left(self, known: Measured, wanted: Wanted, original: Original, left: str | Rejected) -> Measured:
        """`known` with what a candidate left of a context."""
        if isinstance(left, Rejected):
            return replace(known, texts=_reason(left))
        tokens, size = self._bench.counter.count(left), max(1, wanted.tokens)
        values = {
            "tokens": tokens,
            "origin_tokens": wanted.tokens,
            "asked": (tokens if known.rate is None else wanted.budget) / size,
            "kept": tokens / size,
            **kept_values(wanted.row, original, left),
        }
        return replace(known, values=values, texts={CONTEXT: left})

    # ---- what a target makes of it

    def _asked(self, unit: Unit, rows: Sequence[EvalRow]) -> Iterator[list[Measured]]:
        if self._target is None or self._target.name != unit.target:
            self._target = None  # the one before is let go first
            (spec,) = (one for one in self._config.targets if one.name == unit.target)
            self._target = self._make(spec, self._config)
        questions = list(self._questions(unit, {row.id: row for row in rows}))
        for start in range(0, len(questions), AT_ONCE):
            yield answered(
                questions[start : start + AT_ONCE],
                partial(self._answers, self._target),
                lambda question, error: replace(question[0], texts=_reason(error)),
            )

    def _questions(self, unit: Unit, rows: Mapping[str, EvalRow]) -> Iterator[Question]:
        for left in self._ledger.unit(unit.compressed):
            if left.row in rows and CONTEXT in left.texts:
                row = rows[left.row]
                known = replace(left, target=unit.target, values={}, texts={})
                yield known, row, template_of(row).prompt(row, [left.texts[CONTEXT]])

    def _answers(self, target: Target, questions: Sequence[Question]) -> list[Measured]:
        known, rows, prompts = zip(*questions, strict=True)
        asks = self._config.ask or (("nll",) if target.scores else ("generate",))
        values: list[dict[str, float]] = [{} for _ in rows]
        texts: list[dict[str, str]] = [{} for _ in rows]
        if "nll" in asks and target.scores:
            values = [{"nll": value} for value in lowest_nll(target, list(zip(rows, prompts, strict=True)))]
        if "generate" in asks:
            from jobs.evaluation.metrics import textual  # its libraries are only needed where text is generated

            replies = target.generate(prompts, self._config.max_tokens, self._config.stop)
            values = [{**one, **textual(row, reply)} for one, row, reply in zip(values, rows, replies, strict=True)]
            texts = [{OUTPUT: reply} for reply in replies]
        return [replace(one, values=value, texts=text) for one, value, text in zip(known, values, texts, strict=True)]


def _reason(rejected: Rejected | PromptError) -> dict[str, str]:
    return {REJECTED: f"{rejected.reason}: {rejected.detail}"}


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
