"""One measurement: contenders in turn, round after round, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.benchmarking.contenders import Contender, Ours, Run
from jobs.benchmarking.mixes import Mix
from jobs.benchmarking.roofline import Roofline, Size, attainable, measure_roofline, plain_forward
from lingua.prompt import Prompt

PLAIN_LENGTH, PLAIN_TOKENS = 4_096, 1 << 17
"""Rows of the plain forward are as long as the mix's prompts, and it takes as many tokens as we did, up to these."""
_FIRST = Prompt(
    context=["A prompt that nobody keeps: it is compressed once, so that all code has run. " * 4], question="Who?"
)
"""What happens only once is not measured."""


@dataclass(slots=True)
class Rounds:
    """What was measured on one mix; lists have one entry per round.

    plain   tokens per second of the plain forward      runs   by contender's name      failed   why, by name
    """

    mix: Mix
    tokens: list[int]
    plain: list[float] = field(default_factory=list)
    roofs: list[Roofline] = field(default_factory=list)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    busy: float | None = None

    def origin(self, run: Run) -> int:
        """Original tokens of the prompts that a run took."""
        return sum(self.tokens[: run.prompts])

    def speeds(self, name: str) -> list[float]:
        """Original tokens per second, by round."""
        return [self.origin(run) / run.seconds for run in self.runs[name]]

    def cpu_speeds(self, name: str) -> list[float]:
        """Original tokens per second of CPU time, by round."""
        return [self.origin(run) / run.cpu_seconds for run in self.runs[name]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a mix is measured: `slow_rows` prompts for what is slow (None: all); `hardware`: the plain forward too."""

    rounds: int
    slow_rows: int | None
    contenders: Sequence[Contender]
    count: Callable[[str], int]
    hardware: bool = True


def measure_mix(mix: Mix, plan: Plan) -> Iterator[Rounds]:
    """Run every contender over the mix, `rounds` times. The first contender must be ours; it sets the pace.

    Yields one record again and again, as it grows, so that what was measured is kept if the rest never ends.
    """
    rounds, ours = Rounds(mix, [plan.count(prompt.text) for prompt in mix.prompts]), plan.contenders[0]
    for number in range(plan.rounds):
        for contender in plan.contenders:
            _one(rounds, contender, plan)
            yield rounds
            if plan.hardware and contender is ours:
                _hardware(rounds, ours)
                yield rounds
            print(f"{mix.name}, round {number + 1} of {plan.rounds}: {contender.name}", file=sys.stderr, flush=True)
    if isinstance(ours, Ours) and ours.name in rounds.runs:
        rounds.busy = ours.busy_share(mix.prompts, statistics.median(run.seconds for run in rounds.runs[ours.name]))
        yield rounds


def _one(rounds: Rounds, contender: Contender, plan: Plan) -> None:
    if contender.name in rounds.failed:
        return
    prompts = rounds.mix.prompts[: plan.slow_rows] if contender.takes_few else rounds.mix.prompts
    try:
        if contender.name not in rounds.runs:
            contender.run([_FIRST])
        run = contender.run(prompts)
    except Exception as error:  # a failure of any kind is a result of this contender, not the end of the others
        print(f"{contender.name} failed: {error}", file=sys.stderr, flush=True)
        rounds.failed[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        rounds.runs.pop(contender.name, None)
    else:
        rounds.runs.setdefault(contender.name, []).append(run)


def _hardware(rounds: Rounds, ours: Contender) -> None:
    """The plain forward over as many tokens as our engine just took, and the roofline."""
    if not isinstance(ours, Ours) or ours.name not in rounds.runs:
        return
    run, subject = rounds.runs[ours.name][-1], ours.subject
    length = min(PLAIN_LENGTH, round(statistics.median(rounds.tokens)))
    tokens = max(1, min(run.model_tokens, PLAIN_TOKENS))
    rounds.plain.append(plain_forward(subject, tokens, length, ours.scorer.batch_tokens))
    rounds.roofs.append(measure_roofline(subject.device, subject.dtype))


def hardware_shares(rounds: Rounds, ours: Ours) -> dict[str, Any]:
    """Our engine's shares of the plain forward and of the roofline, by round."""
    runs = rounds.runs.get(ours.name, [])
    size = Size.of(ours.subject.model)
    measured = list(zip(runs, rounds.plain, rounds.roofs, strict=False))  # a round that is under way lacks some
    return {
        "of_plain_forward": [run.model_tokens / run.seconds / plain for run, plain, _ in measured],
        "of_roofline": [attainable(run.batches, size, roof) / run.seconds for run, _, roof in measured],
        "of_matrix_product": [
            sum(map(size.operations, run.batches)) / run.seconds / roof.operations for run, _, roof in measured
        ],
    }
