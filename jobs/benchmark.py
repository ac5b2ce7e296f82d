"""`python -m jobs.benchmark`: how fast is our engine against the public llmlingua and the hardware?

All are measured in one run, in turn, on the same texts and weights: what counts are the ratios. Needs no Ray.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field, field_validator, model_validator

from cluster.command import Command
from cluster.settings import Settings
from cluster.stopping import exit_code
from jobs.benchmarking.contenders import Ours, Subject, Theirs, load_subject
from jobs.benchmarking.prompts import MIXES, MixSize, make_mix
from jobs.benchmarking.rounds import Rounds, make_report, page, write
from jobs.peer import Peer, PeerSettings, peer_options
from lingua.config import CompressionConfig
from lingua.methods import METHODS
from lingua.models.load import choose_dtype
from lingua.models.sizing import Allowance
from lingua.text.tokens import SourceTokenizer

SMALL = {"mixes": ("short", "fewshot:700"), "rows": 3, "rounds": 1}
_GROUPS = {
    "what is compressed": ("small", "mixes", "rows", "slow_rows", "seed"),
    "how": ("model", "method", "rate", "device", "dtype", "gpu_memory", "threads"),
    "who is measured": ("beside", "rounds", "peer_python", "peer_path", "output"),
}
_EXAMPLES = """\
examples:
  python -m jobs.benchmark --small
  python -m jobs.benchmark --mix fewshot --rows 4 --dtype float32 --rounds 3
  python -m jobs.benchmark --model shape:llama-2-7b --mix fewshot --rows 128 --slow-rows 4 --output bench-output/7b
  python -m jobs.benchmark --mix mixed --rows 50 --rate 0.3 --beside llmlingua --beside compile
  python -m jobs.benchmark --model shape:xlm-roberta-large --method llmlingua2 --mix long:5000

beside our engine are measured: unshared (nothing shared between prompts), default (our default type), llmlingua (the
public library, in its own environment: make peer), plain (the plain forward pass and the hardware); only where asked
for: compile (a decoder compiled by torch).
"""


class BenchmarkConfig(Settings):
    """What is measured, on what, and where the report goes."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    command: ClassVar[Command] = Command(
        "jobs.benchmark",
        "[any setting below]",
        "Measure our engine against one prompt at a time, the public llmlingua and the hardware.",
        _EXAMPLES,
        groups=_GROUPS,
        flags={"mixes": "mix"},
        variables=(),
    )

    small: bool = Field(False, description="few and short prompts, one round: minutes on two CPU cores")
    mixes: tuple[MixSize, ...] = Field(
        tuple(MIXES), validate_default=True, description=f"NAME or NAME:TOKENS (default: {', '.join(MIXES)})"
    )
    rows: int = Field(32, ge=1, description="prompts per mix")
    slow_rows: int | None = Field(None, ge=1, description="prompts for the peer and what shares nothing (default: all)")
    seed: int = Field(0, description="of the prompts and of random weights")
    model: str = Field("smollm2-135m", description="a model as in jobs.compress, or shape:NAME (random weights)")
    method: Literal["llmlingua", "llmlingua2", "longllmlingua", "selective"] = Field(
        "llmlingua", description="one whose speed is a model's"
    )
    rate: float = Field(0.5, gt=0, le=1, description="share of the tokens to keep")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field("float32", description="also the peer's")
    gpu_memory: float = Field(0.3, gt=0, le=1, description="share of a GPU's free memory for one scorer")
    threads: int | None = Field(None, ge=1, description="of CPU work, everyone's (default: one per core)")
    beside: tuple[Literal["unshared", "default", "llmlingua", "plain", "compile"], ...] = Field(
        ("unshared", "default", "llmlingua", "plain"), description="who else is measured (default: the first four)"
    )
    rounds: int = Field(3, ge=1, description="alternating repetitions")
    peer_python: Path = Field(Path(".venv-reference/bin/python"), description="the peer's interpreter")
    peer_path: Path | None = Field(None, description="folder with the peer's packages, before the interpreter's own")
    output: Path | None = Field(None, description="folder for benchmark.json and benchmark.md; always printed")

    @model_validator(mode="before")
    @classmethod
    def _of_a_preset(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return {**SMALL, **settings} if settings.get("small") else settings

    @field_validator("mixes", mode="before")
    @classmethod
    def _sizes(cls, value: Any) -> tuple[MixSize, ...]:
        return tuple(MixSize.parse(str(mix)) for mix in (value if isinstance(value, (list, tuple)) else [value]))

    @model_validator(mode="after")
    def _fits_together(self) -> BenchmarkConfig:
        if "compile" in self.beside and METHODS[self.method].needs != "causal":
            raise ValueError(f"--beside compile: method {self.method} reads with no causal language model")
        return self

    @property
    def allowance(self) -> Allowance:
        """Of each scorer: others and the peer stand beside it."""
        return Allowance(share=self.gpu_memory)


def main(argv: Sequence[str] | None = None) -> int:
    """0: reported. 2: a setting or the model is wrong."""
    given = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: run(BenchmarkConfig.load(given), shlex.join(["python", "-m", "jobs.benchmark", *given])))


def run(config: BenchmarkConfig, command: str) -> int:
    """Measure everything, write the report whenever something is measured, print the table."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    subject = _subject(config, config.dtype)
    count = SourceTokenizer(subject.tokenizer).count
    mixes = [make_mix(size, config.rows, config.seed, count) for size in config.mixes]
    with ExitStack() as stack:
        ours, *others = _ours(config, subject)
        theirs, missing = None, _no_peer(config)
        if not missing:
            theirs = Theirs(partial(_begin, config, subject, stack), peer_options(config.method, config.rate) or {})
        done: list[Rounds] = []
        for mix in mixes:
            tokens = [count(prompt.text) for prompt in mix.prompts]
            done.append(Rounds(mix, ours, tokens, config.slow_rows, "plain" in config.beside))
            for _ in done[-1].measure([*others, *filter(None, [theirs])], config.rounds):
                versions = theirs.peer.versions if theirs and theirs.peer else {"missing": missing or "not yet started"}
                report = make_report(ours, done, versions, command)
                text = page("benchmark", **report)
                if config.output is not None:
                    write(config.output, "benchmark", report, text)
    print(text)
    return 0


def _ours(config: BenchmarkConfig, subject: Subject) -> Iterator[Ours]:
    """Our engine, then its other ways to compute that are measured beside it."""
    wanted, scorer = CompressionConfig(method=config.method, rate=config.rate), subject.scorer(config.allowance)
    yield Ours("lingua", subject, scorer, wanted)
    if "unshared" in config.beside:
        yield Ours("lingua, nothing shared", subject, scorer, wanted, forgetful=True)
    if "default" in config.beside and choose_dtype("auto", subject.device) != subject.dtype:
        default = _subject(config, "auto")
        yield Ours(f"lingua, {default.model.dtype}", default, default.scorer(config.allowance), wanted)
    if "compile" in config.beside:
        compiled = _subject(config, config.dtype)
        yield Ours("lingua, compile", compiled, compiled.scorer(config.allowance, compiled=True), wanted)


def _subject(config: BenchmarkConfig, dtype: str) -> Subject:
    return load_subject(config.model, (config.device, dtype), config.method, config.seed)


def _no_peer(config: BenchmarkConfig) -> str:
    """Why the peer cannot be measured; "" where it can."""
    if peer_options(config.method, config.rate) is None:
        return f"llmlingua has no method {config.method}"
    if "llmlingua" not in config.beside:
        return "not asked for"
    return "" if config.peer_python.exists() else f"no interpreter {config.peer_python}; make peer creates it"


def _begin(config: BenchmarkConfig, subject: Subject, stack: ExitStack) -> Peer:
    """The peer with the same weights, once it is its turn; it ends with `stack`."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lingua-benchmark-"))
    model, dtype = str(subject.for_peer(Path(folder))), str(subject.dtype).removeprefix("torch.")
    wanted = PeerSettings(model, str(subject.device), dtype, subject.is_encoder, torch.get_num_threads())
    return stack.enter_context(closing(Peer(wanted, config.peer_python, config.peer_path)))


if __name__ == "__main__":
    sys.exit(main())
