"""Who is measured: our engine in its ways to compute, and the public library in its own process.

Our engine runs its real scorer and tokenizer under a clock that wraps them from outside, so that it carries no
counters. What is neither model nor tokenizer is the host's: selection, packing, Python.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.benchmarking.hardware import Batch, forget_peak, kernel_seconds, peak_bytes, synchronize
from jobs.benchmarking.subject import Subject
from jobs.peer import Peer
from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, Arriving, BatchRow, ScoreCache, Scorer, TimedScorer
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt, Span
from lingua.text.tokens import SourceTokenizer

T = TypeVar("T")
KeptSpans = tuple[tuple[Span, ...], ...]


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, stage: str, work: Callable[..., T]) -> Callable[..., T]:
        """The same work, whose time belongs to this stage."""

        def timing(*given: Any) -> T:
            started = time.perf_counter()
            try:
                return work(*given)
            finally:
                self.seconds[stage] += time.perf_counter() - started

        return timing


class MeasuredScorer(TimedScorer):
    """Answers as `scorer` does; `batches`: the work of each. The stage ``model`` is launching batches and waiting."""

    def __init__(self, scorer: Scorer, clock: Clock) -> None:
        super().__init__(scorer)
        self.batches: list[Batch] = []
        self._clock = clock

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        cached = [self.cached(row.context) for row in rows]
        new = [len(row.context) - start + len(row.probe) for row, start in zip(rows, cached, strict=True)]
        pairs = sum(size * start + size * (size + 1) // 2 for size, start in zip(new, cached, strict=True))
        answers = self._clock.timed("model", self._clock.timed("model", self.scorer.start)(rows))

        def taken() -> list[Answer]:
            found = answers()
            self.batches.append(Batch(sum(new), sum(len(row.probe) for row in rows), pairs))
            return found

        return taken


class MeasuredTokenizer(SourceTokenizer):
    """The compressor's tokenizer under the clock."""

    def __init__(self, tokenizer: Any, clock: Clock) -> None:
        super().__init__(tokenizer)
        for name in ("encode", "count", "starts"):
            setattr(self, name, clock.timed("tokenize", getattr(self, name)))


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
    """Our engine over `scorer`; `forgetful`: it shares nothing between prompts."""

    name: str
    subject: Subject
    scorer: Scorer
    config: CompressionConfig
    forgetful: bool = False

    @property
    def takes_few(self) -> bool:
        """Whether it is slow, so that it is given only the first of many prompts."""
        return self.forgetful

    def run(self, prompts: Sequence[Prompt]) -> Pass:
        clock = Clock()
        scorer, tokenizer = MeasuredScorer(self.scorer, clock), MeasuredTokenizer(self.subject.tokenizer, clock)
        forget_peak(self.subject.device)
        worked = time.process_time()
        outcomes = clock.timed("all", self.compress)(prompts, scorer, tokenizer)
        seconds = clock.seconds.pop("all")
        done = [outcome for outcome in outcomes if isinstance(outcome, CompressedPrompt)]
        kept = sum(outcome.compressed_tokens for outcome in done) / max(1, sum(one.origin_tokens for one in done))
        return Pass(
            prompts=len(prompts),
            seconds=seconds,
            cpu_seconds=time.process_time() - worked,
            kept_share=kept,
            model_tokens=sum(batch.tokens for batch in scorer.batches),
            stages={**clock.seconds, "host": seconds - sum(clock.seconds.values())},
            peak_bytes=peak_bytes(self.subject.device),
            batches=tuple(scorer.batches),
            rejected=len(outcomes) - len(done),
            kept=tuple(outcome.kept_spans if isinstance(outcome, CompressedPrompt) else () for outcome in outcomes),
        )

    def compress(
        self, prompts: Sequence[Prompt], scorer: Scorer, tokenizer: SourceTokenizer
    ) -> list[CompressedPrompt | PromptError]:
        """The outcomes, once the device has done all that it was given."""
        drafter = Drafter(tokenizer, tokenizer, self.config, scorer.probe_tokens)
        cache = ScoreCache(0) if self.forgetful else ScoreCache()
        engine: Engine[CompressedPrompt] = Engine(scorer, cache=cache)
        outcomes = list(engine.run(compress_one(prompt, drafter) for prompt in prompts))
        synchronize(self.subject.device)
        return outcomes

    def busy_share(self, prompts: Sequence[Prompt], seconds: float) -> float | None:
        """Share of `seconds`, an earlier pass's over these prompts, in which the GPU ran kernels; None on a CPU."""
        if self.subject.device.type != "cuda":
            return None
        tokenizer = SourceTokenizer(self.subject.tokenizer)
        return kernel_seconds(lambda: self.compress(prompts, self.scorer, tokenizer)) / seconds


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
        if self.peer is None:
            self.peer = self.begin()
        answers = [self.peer.compress(prompt, self.options) for prompt in prompts]
        seconds, model = sum(one.seconds for one in answers), sum(one.model_seconds for one in answers)
        kept, origin = sum(one.compressed_tokens for one in answers), sum(one.origin_tokens for one in answers)
        return Pass(
            prompts=len(prompts),
            seconds=seconds,
            cpu_seconds=sum(one.cpu_seconds for one in answers),
            kept_share=kept / max(1, origin),
            model_tokens=sum(one.model_tokens for one in answers),
            stages={"model": model, "host": seconds - model},
            peak_bytes=max(one.peak_bytes for one in answers),
        )
