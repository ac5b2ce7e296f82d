"""Who is measured, and how: contenders in turn, round after round, so that a busy machine slows all of them alike.

Our engine runs its real scorer and tokenizer under a clock that wraps them from outside, so that it carries no
counters. What is neither model nor tokenizer is the host's: selection, packing, Python.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.benchmarking.hardware import (
    Batch,
    Roofline,
    forget_peak,
    kernel_seconds,
    measure_roofline,
    peak_bytes,
    plain_forward,
    synchronize,
)
from jobs.benchmarking.prompts import Mix
from jobs.benchmarking.subject import Subject
from jobs.peer import Peer
from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answers, BatchRow, ScoreCache, Scorer, Surprisal, TimedScorer, start
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt, Span
from lingua.text.tokens import SourceTokenizer

T = TypeVar("T")
KeptSpans = tuple[tuple[Span, ...], ...]
PLAIN_LENGTH, PLAIN_TOKENS = 4_096, 1 << 17
"""Rows of the plain forward are as long as the mix's prompts, and it takes as many tokens as we did, up to these."""
_FIRST = Prompt(
    context=["A prompt that nobody keeps: it is compressed once, so that all code has run. " * 4], question="Who?"
)
"""What happens only once is not measured."""


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def timed(self, name: str, work: Callable[..., T]) -> Callable[..., T]:
        """The same work, whose time belongs to this stage."""

        def timing(*given: Any) -> T:
            with self.stage(name):
                return work(*given)

        return timing

    def shares(self) -> dict[str, float]:
        """Seconds of each stage but ``all``; ``host`` is what is left of that."""
        known = {name: value for name, value in self.seconds.items() if name != "all"}
        return known | {"host": self.seconds["all"] - sum(known.values())}


class MeasuredScorer(TimedScorer):
    """Answers as `scorer` does; `batches`: the work of each. The stage ``model`` is launching batches and waiting."""

    def __init__(self, scorer: Scorer, clock: Clock) -> None:
        super().__init__(scorer)
        self.batches: list[Batch] = []
        self._clock = clock

    def start(self, rows: Sequence[BatchRow]) -> Answers:
        batch = self._work(rows)
        answers = self._clock.timed("model", self._clock.timed("model", start)(self.scorer, rows))

        def taken() -> list[Surprisal]:
            found = answers()
            self.batches.append(batch)
            return found

        return taken

    def _work(self, rows: Sequence[BatchRow]) -> Batch:
        cached = [self.cached(row.context) for row in rows]
        new = [len(row.context) - start + len(row.probe) for row, start in zip(rows, cached, strict=True)]
        pairs = sum(size * start + size * (size + 1) // 2 for size, start in zip(new, cached, strict=True))
        return Batch(sum(new), sum(len(row.probe) for row in rows), pairs)


class MeasuredTokenizer(SourceTokenizer):
    """The compressor's tokenizer under the clock."""

    def __init__(self, tokenizer: Any, clock: Clock) -> None:
        super().__init__(tokenizer)
        for name in ("encode", "count", "starts"):
            setattr(self, name, clock.timed("tokenize", getattr(self, name)))


# ---- who is measured


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over some prompts.

    cpu_seconds    of all threads: what a busy machine does not lengthen
    kept_share     compressed tokens per original one
    model_tokens   tokens that went through the model
    stages         seconds by stage; ``host`` is all that is not another
    batches        the work of each batch, where it is known
    kept           of each prompt that was compressed, the kept character ranges of its context strings
    """

    prompts: int
    seconds: float
    cpu_seconds: float
    kept_share: float
    model_tokens: int
    stages: dict[str, float]
    peak_bytes: int
    batches: tuple[Batch, ...] = ()
    rejected: int = 0
    kept: tuple[KeptSpans, ...] = ()


@dataclass(slots=True)
class Ours:
    """Our engine over `scorer`, with at most `programs` prompts alive; `forgetful`: it shares nothing between them.

    reader   tokenizes for an encoder of sentences, where the method asks one
    """

    name: str
    subject: Subject
    scorer: Scorer
    config: CompressionConfig
    programs: int = 256
    forgetful: bool = False
    reader: SourceTokenizer | None = None

    @property
    def takes_few(self) -> bool:
        """Whether it is slow, so that it is given only the first of many prompts."""
        return self.programs == 1 or self.forgetful

    def run(self, prompts: Sequence[Prompt]) -> Pass:
        clock = Clock()
        scorer, tokenizer = MeasuredScorer(self.scorer, clock), MeasuredTokenizer(self.subject.tokenizer, clock)
        forget_peak(self.subject.device)
        worked = time.process_time()
        with clock.stage("all"):
            outcomes = self._compress(prompts, scorer, tokenizer)
            synchronize(self.subject.device)
        done = [outcome for outcome in outcomes if isinstance(outcome, CompressedPrompt)]
        kept = sum(outcome.compressed_tokens for outcome in done) / max(1, sum(one.origin_tokens for one in done))
        return Pass(
            prompts=len(prompts),
            seconds=clock.seconds["all"],
            cpu_seconds=time.process_time() - worked,
            kept_share=kept,
            model_tokens=sum(batch.tokens for batch in scorer.batches),
            stages=clock.shares(),
            peak_bytes=peak_bytes(self.subject.device),
            batches=tuple(scorer.batches),
            rejected=len(outcomes) - len(done),
            kept=tuple(outcome.kept_spans if isinstance(outcome, CompressedPrompt) else () for outcome in outcomes),
        )

    def _compress(
        self, prompts: Sequence[Prompt], scorer: Scorer, tokenizer: SourceTokenizer
    ) -> list[CompressedPrompt | PromptError]:
        drafter = Drafter(tokenizer, tokenizer, self.config, scorer.probe_tokens, reader=self.reader)
        cache = ScoreCache(0) if self.forgetful else ScoreCache()
        engine: Engine[CompressedPrompt] = Engine(scorer, self.programs, cache)
        return list(engine.run(compress_one(prompt, drafter) for prompt in prompts))

    def busy_share(self, prompts: Sequence[Prompt], seconds: float) -> float | None:
        """Share of `seconds`, an earlier pass's over these prompts, in which the GPU ran kernels; None on a CPU."""
        if self.subject.device.type != "cuda":
            return None
        tokenizer = SourceTokenizer(self.subject.tokenizer)
        return kernel_seconds(lambda: self._compress(prompts, self.scorer, tokenizer)) / seconds


@dataclass(slots=True)
class Theirs:
    """The public library in its own process, which `begin` starts; `options` are those of its `compress_prompt`.

    peer   its process, once it was asked for anything
    """

    begin: Callable[[], Peer]
    options: dict[str, Any]
    name: str = "llmlingua"
    takes_few: bool = field(default=True, init=False)
    peer: Peer | None = field(default=None, init=False)

    def run(self, prompts: Sequence[Prompt]) -> Pass:
        peer = self.peer = self.peer or self._started()
        answers = [peer.compress(prompt, self.options) for prompt in prompts]
        seconds = sum(answer.seconds for answer in answers)
        model = sum(answer.model_seconds for answer in answers)
        origin = sum(answer.origin_tokens for answer in answers)
        return Pass(
            prompts=len(prompts),
            seconds=seconds,
            cpu_seconds=sum(answer.cpu_seconds for answer in answers),
            kept_share=sum(answer.compressed_tokens for answer in answers) / max(1, origin),
            model_tokens=sum(answer.model_tokens for answer in answers),
            stages={"model": model, "host": seconds - model},
            peak_bytes=max(answer.peak_bytes for answer in answers),
        )

    def _started(self) -> Peer:
        peer = self.begin()
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in peer.start_seconds.items())
        print(f"{self.name} has started: {parts}", file=sys.stderr, flush=True)
        return peer


# ---- round after round


@dataclass(frozen=True, slots=True)
class Procedure:
    """How a mix is measured: `slow_rows` prompts for what is slow (None: all); `hardware`: the plain forward too."""

    rounds: int
    slow_rows: int | None
    ours: Ours
    others: Sequence[Ours | Theirs]
    count: Callable[[str], int]
    hardware: bool = True


@dataclass(slots=True)
class Rounds:
    """What was measured on one mix; lists have one entry per round.

    plain   tokens per second of the plain forward      runs   by contender's name      failed   why, by name
    """

    mix: Mix
    tokens: list[int]
    plain: list[float] = field(default_factory=list)
    roofs: list[Roofline] = field(default_factory=list)
    runs: dict[str, list[Pass]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    busy: float | None = None

    def origin(self, run: Pass) -> int:
        """Original tokens of the prompts that a pass took."""
        return sum(self.tokens[: run.prompts])

    def speeds(self, name: str) -> list[float]:
        return [self.origin(run) / run.seconds for run in self.runs[name]]

    def cpu_speeds(self, name: str) -> list[float]:
        """Original tokens per second of CPU time, by round."""
        return [self.origin(run) / run.cpu_seconds for run in self.runs[name]]


def measure_mix(mix: Mix, procedure: Procedure) -> Iterator[Rounds]:
    """Run every contender over the mix, round after round; our engine comes first and sets the pace.

    Yields one record again and again, as it grows, so that what was measured is kept if the rest never ends.
    """
    rounds, ours = Rounds(mix, [procedure.count(prompt.text) for prompt in mix.prompts]), procedure.ours
    for number in range(procedure.rounds):
        for contender in (ours, *procedure.others):
            _one(rounds, contender, procedure)
            yield rounds
            if procedure.hardware and contender is ours and ours.name in rounds.runs:
                _hardware(rounds, ours)
                yield rounds
            done = f"{mix.name}, round {number + 1} of {procedure.rounds}: {contender.name}"
            print(done, file=sys.stderr, flush=True)
    if ours.name in rounds.runs:
        rounds.busy = ours.busy_share(mix.prompts, statistics.median(run.seconds for run in rounds.runs[ours.name]))
        yield rounds


def _one(rounds: Rounds, contender: Ours | Theirs, procedure: Procedure) -> None:
    if contender.name in rounds.failed:
        return
    prompts = rounds.mix.prompts[: procedure.slow_rows] if contender.takes_few else rounds.mix.prompts
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


def _hardware(rounds: Rounds, ours: Ours) -> None:
    """The plain forward over as many tokens as our engine just took, and the roofline."""
    run, subject = rounds.runs[ours.name][-1], ours.subject
    length = min(PLAIN_LENGTH, round(statistics.median(rounds.tokens)))
    tokens = max(1, min(run.model_tokens, PLAIN_TOKENS))
    rounds.plain.append(plain_forward(subject, tokens, length, ours.scorer.batch_tokens))
    rounds.roofs.append(measure_roofline(subject.device, subject.dtype))
