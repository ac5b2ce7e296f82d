"""Who is measured: our engine, our engine with one prompt at a time, and the peer. All answer `run(prompts) -> Run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.benchmarking.idle import kernel_seconds
from jobs.benchmarking.memory import forget_peak, peak_bytes
from jobs.benchmarking.peer import Peer
from jobs.benchmarking.roofline import synchronize
from jobs.benchmarking.stages import Batch, Clock, MeasuredScorer, MeasuredTokenizer
from jobs.benchmarking.subject import Subject
from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.cache import ScoreCache
from lingua.engine.engine import Engine
from lingua.engine.score import Scorer
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt, Span
from lingua.text.tokens import SourceTokenizer

KeptSpans = tuple[tuple[Span, ...], ...]


@dataclass(frozen=True, slots=True)
class Run:
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


class Contender(Protocol):
    """Compresses prompts, and says what it took."""

    @property
    def name(self) -> str: ...

    @property
    def takes_few(self) -> bool:
        """Whether it is slow, so that it is given only the first of many prompts."""
        ...

    def run(self, prompts: Sequence[Prompt]) -> Run: ...


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
        return self.programs == 1 or self.forgetful

    def run(self, prompts: Sequence[Prompt]) -> Run:
        clock = Clock()
        scorer, tokenizer = MeasuredScorer(self.scorer, clock), MeasuredTokenizer(self.subject.tokenizer, clock)
        forget_peak(self.subject.device)
        worked = time.process_time()
        with clock.stage("all"):
            outcomes = self._compress(prompts, scorer, tokenizer)
            synchronize(self.subject.device)
        done = [outcome for outcome in outcomes if isinstance(outcome, CompressedPrompt)]
        kept = sum(outcome.compressed_tokens for outcome in done) / max(1, sum(one.origin_tokens for one in done))
        return Run(
            prompts=len(prompts),
            seconds=clock.seconds["all"],
            cpu_seconds=time.process_time() - worked,
            kept_share=kept,
            model_tokens=sum(batch.tokens for batch in scorer.batches),
            stages=_stages(clock.seconds),
            peak_bytes=peak_bytes(self.subject.device),
            batches=tuple(scorer.batches),
            rejected=len(outcomes) - len(done),
            kept=tuple(outcome.kept_spans if isinstance(outcome, CompressedPrompt) else () for outcome in outcomes),
        )

    def _compress(
        self, prompts: Sequence[Prompt], scorer: Scorer, tokenizer: SourceTokenizer
    ) -> list[CompressedPrompt | PromptError]:
        drafter = Drafter(tokenizer, tokenizer, self.config, scorer.probe_tokens, reader=self.reader)
        engine: Engine[CompressedPrompt] = Engine(
            scorer, self.programs, ScoreCache(0) if self.forgetful else ScoreCache()
        )
        return list(engine.run(compress_one(prompt, drafter) for prompt in prompts))

    def busy_share(self, prompts: Sequence[Prompt], seconds: float) -> float | None:
        """Share of `seconds`, an earlier run's over these prompts, in which the GPU ran kernels; None on a CPU."""
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

    def run(self, prompts: Sequence[Prompt]) -> Run:
        peer = self.peer = self.peer or self._started()
        answers = [peer.compress(prompt, self.options) for prompt in prompts]
        seconds = sum(answer.seconds for answer in answers)
        model = sum(answer.model_seconds for answer in answers)
        origin = sum(answer.origin_tokens for answer in answers)
        return Run(
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


def _stages(seconds: dict[str, float]) -> dict[str, float]:
    known = {name: value for name, value in seconds.items() if name != "all"}
    return known | {"host": seconds["all"] - sum(known.values())}
