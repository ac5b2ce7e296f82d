"""What a worker does with a unit: `CompressWork` makes contexts smaller, `AskWork` asks a target about what is left.

Both are given a unit and its rows and return what they measured; `tick` is called as rows are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from cluster.errors import RowError
from jobs.evaluation.budgeted import budget_of
from jobs.evaluation.candidates import Left, Wanted, Workbench
from jobs.evaluation.files import EvalLedger
from jobs.evaluation.grid import Unit
from jobs.evaluation.kept import kept_values
from jobs.evaluation.measured import CONTEXT, OUTPUT, REJECTED, Measured
from jobs.evaluation.rows import EvalRow, template_of
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import TargetSpec
from jobs.evaluation.target import Target
from lingua.errors import PromptError
from lingua.fidelity import Original
from lingua.prompt import Rejected

AT_ONCE = 16
"""Prompts that a target is given together."""
Tick = Callable[[], None]
MakeTarget = Callable[[TargetSpec, EvalConfig], Target]


class Work(Protocol):
    """One stage of an evaluation."""

    def measure(self, unit: Unit, rows: Sequence[EvalRow], tick: Tick) -> list[Measured]:
        """What was found on these rows of the unit."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


@dataclass(frozen=True, slots=True)
class _Whole:
    """A row before compression: the tokens of its context and what they hold."""

    row: EvalRow
    tokens: int
    original: Original


class CompressWork:
    """The stage ``compress``: every row at every size, and what is left of it without asking anyone."""

    def __init__(self, config: EvalConfig, ledger: EvalLedger) -> None:
        self._config, self._ledger = config, ledger
        self._bench = Workbench(config)
        self._candidates = {one.name: one for one in config.all_candidates}

    def measure(self, unit: Unit, rows: Sequence[EvalRow], tick: Tick) -> list[Measured]:
        candidate = self._candidates[unit.candidate]
        wholes = [_Whole(row, self._bench.tokens(row), self._bench.original(row)) for row in rows]
        found = list[Measured]()
        for size in unit.sizes:
            wanted = self._wanted(unit, wholes, size)
            for whole, one, left in zip(wholes, wanted, self._bench.compress(candidate, wanted), strict=True):
                known = Measured(whole.row.id, unit.set, candidate.name, size, "", {})
                found.append(_left(known, whole, one, left))
                tick()
        return found

    def close(self) -> None:
        self._bench.close()

    def _wanted(self, unit: Unit, wholes: Sequence[_Whole], size: float | None) -> list[Wanted]:
        if size is None:
            return [Wanted(whole.row, whole.tokens, 1.0) for whole in wholes]
        matched = self._config.match_peer and unit.candidate not in self._config.peers
        kept = self._kept_by_peer(unit, size) if matched else {}
        budgets = [kept.get(whole.row.id, budget_of(size, whole.tokens)) for whole in wholes]
        return [
            Wanted(whole.row, budget, size if size <= 1 else min(1.0, budget / max(1, whole.tokens)))
            for whole, budget in zip(wholes, budgets, strict=True)
        ]

    def _kept_by_peer(self, unit: Unit, size: float) -> dict[str, int]:
        """Tokens that the peer kept of each row, where it did not fail."""
        (peer,) = self._config.peers
        measured = self._ledger.read(replace(unit, candidate=peer).name)
        return {one.row: int(one.values["tokens"]) for one in measured if one.rate == size and "tokens" in one.values}


def _left(known: Measured, whole: _Whole, wanted: Wanted, left: Left | Rejected) -> Measured:
    """`known` with what a candidate left of the whole."""
    if isinstance(left, Rejected):
        return replace(known, texts={REJECTED: f"{left.reason}: {left.detail}"})
    kept = left.tokens / max(1, whole.tokens)
    values = {
        "tokens": left.tokens,
        "origin_tokens": whole.tokens,
        "asked": kept if known.rate is None else wanted.budget / max(1, whole.tokens),
        "kept": kept,
        **kept_values(whole.row, whole.original, left.context),
    }
    return replace(known, values=values, texts={CONTEXT: left.context})


@dataclass(frozen=True, slots=True)
class _Question:
    """A compressed prompt for a target."""

    known: Measured
    row: EvalRow
    prompt: str


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
            some = questions[start : start + AT_ONCE]
            try:
                found += self._asked(target, some)
            except (RowError, PromptError):  # one of them cannot be answered: which one shows alone
                found += [self._asked_alone(target, one) for one in some]
            tick()
        return found

    def close(self) -> None:
        self._target = None

    def _questions(self, unit: Unit, rows: Mapping[str, EvalRow]) -> Iterator[_Question]:
        for left in self._ledger.read(unit.compressed.name):
            if left.row in rows and CONTEXT in left.texts:
                row = rows[left.row]
                known = replace(left, target=unit.target, values={}, texts={})
                yield _Question(known, row, template_of(row).prompt(row, [left.texts[CONTEXT]]))

    def _hold(self, name: str) -> Target:
        """The target of this name; the one before is let go first."""
        if self._target is None or self._target.name != name:
            self._target = None
            self._target = self._make(self._specs[name], self._config)
        return self._target

    def _asked(self, target: Target, questions: Sequence[_Question]) -> list[Measured]:
        asks = self._config.ask or (("nll",) if target.scores else ("generate",))
        found = [one.known for one in questions]
        if "nll" in asks and target.scores:
            values = lowest_nll(target, [(one.row, one.prompt) for one in questions])
            found = [replace(known, values={"nll": value}) for known, value in zip(found, values, strict=True)]
        if "generate" in asks:
            replies = target.generate([one.prompt for one in questions], self._config.max_tokens, self._config.stop)
            found = [_replied(*each) for each in zip(found, questions, replies, strict=True)]
        return found

    def _asked_alone(self, target: Target, question: _Question) -> Measured:
        try:
            return self._asked(target, [question])[0]
        except (RowError, PromptError) as error:
            return replace(question.known, texts={REJECTED: f"{error.reason}: {error.detail}"})


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


def _replied(known: Measured, question: _Question, reply: str) -> Measured:
    values = {**known.values, **_textual(question.row, reply)}
    return replace(known, values=values, texts={OUTPUT: reply})


def _textual(row: EvalRow, reply: str) -> dict[str, float]:
    from jobs.evaluation.textual import textual  # its libraries are only needed where text is generated

    return textual(replace(row, set=str(row.meta.get("set", row.set))), reply)


def make_target(spec: TargetSpec, config: EvalConfig) -> Target:
    """A model in this process, or an endpoint. Raises ModelError, ConfigError."""
    if spec.remote:
        return _endpoint(spec, config)
    from jobs.evaluation.local_target import LocalTarget  # torch is loaded where models run

    settings = spec.settings
    place = str(settings.get("device", config.device)), str(settings.get("dtype", config.dtype))
    return LocalTarget(spec.name, str(settings["model"]), place, config.batch_tokens)


def _endpoint(spec: TargetSpec, config: EvalConfig) -> Target:
    """An endpoint whose answers are kept beside the results, with this worker's part of its budget."""
    from jobs.evaluation.endpoint import Endpoint, EndpointSettings
    from jobs.evaluation.spending import Budget

    kept = {"cache": f"{config.output}/_answers", "storage_options": config.storage_options}
    settings = EndpointSettings(**{**kept, **spec.settings})
    endpoint = Endpoint(settings, Budget(settings.max_requests, settings.max_tokens).split(config.workers or 1))
    endpoint.name = spec.name
    return endpoint
