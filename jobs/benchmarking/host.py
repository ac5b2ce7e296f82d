"""`python -m jobs.benchmarking.host`: what the engine costs its host, in microseconds of CPU per original token.

A scorer that computes nothing answers from the ids alone, and its own time is left out, so that only tokenization,
selection and bookkeeping count: what a device must not wait for. Packing rows into tensors is a scorer's, not measured.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import AutoTokenizer

from jobs.benchmarking.mixes import Mix, MixSize, make_mix
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.draft import Drafter
from lingua.engine import Engine
from lingua.memory import Memory
from lingua.methods import needs_of
from lingua.models.gguf import converted
from lingua.models.source import resolve
from lingua.prompt import CompressedPrompt
from lingua.score import Context, Row, Surprisal
from lingua.tokens import SourceTokenizer

CASES = (
    ("llmlingua", "fewshot"),
    ("llmlingua", "short"),
    ("selective", "short"),
    ("llmlingua2", "long:5000"),
    ("evidence", "fewshot"),
    ("evidence", "short"),
)
"""Methods and the mixes that they are measured on."""


class BlankScorer:
    """Answers from the ids alone: numbers in [0, 10) for a model's surprisal, directions for the states of tokens.

    seconds   CPU time spent in here, which is none of the engine's
    """

    window, batch_tokens, live_tokens, probe_tokens = 8_192, 16_384, 1 << 22, 4_096

    def __init__(self, vectors: bool) -> None:
        self._vectors = vectors
        self.seconds = 0.0

    def cached(self, context: Context) -> int:
        return max(0, len(context) - 1)

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        started = time.process_time()
        answers = [self._answer(np.asarray(row.probe, np.int64)) for row in rows]
        self.seconds += time.process_time() - started
        return answers

    def _answer(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Surprisal:
        if self._vectors:
            angles = ids % 628 / 100
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        before = np.concatenate([[0], ids[:-1]])
        return ((31 * before + 17 * ids) % 1009 / 100.9).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Bench:
    """One method on one mix, ready to be run."""

    method: str
    mix: Mix
    drafter: Drafter
    tokens: int

    @classmethod
    def of(cls, method: str, mix: Mix, tokenizer: SourceTokenizer) -> Bench:
        config = CompressionConfig(method=method, rate=0.5)
        reader = tokenizer if needs_of(config) == "sentences" else None
        drafter = Drafter(tokenizer, tokenizer, config, BlankScorer.probe_tokens, reader=reader)
        return cls(method, mix, drafter, sum(tokenizer.count(prompt.text) for prompt in mix.prompts))

    def run(self) -> float:
        """Compress all prompts once; microseconds of CPU per original token, the scorer's left out."""
        scorer = BlankScorer(self.drafter.reader is not None)
        engine: Engine[CompressedPrompt] = Engine(scorer, memory=Memory())
        started = time.process_time()
        for _ in engine.run((compress_one(prompt, self.drafter), len(prompt.text)) for prompt in self.mix.prompts):
            pass
        return (time.process_time() - started - scorer.seconds) / self.tokens * 1e6


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(argv)
    tokenizer = SourceTokenizer(_tokenizer(flags.model))
    wanted = [case for case in CASES if flags.method in (None, case[0])]
    benches = [Bench.of(method, _mix(mix, flags.rows, tokenizer.count), tokenizer) for method, mix in wanted]
    for bench in benches:
        bench.run()
    if flags.profile:
        return _profile(benches)
    found = [[bench.run() for bench in benches] for _ in range(flags.rounds)]
    print("| method | prompts | tokens | host µs per original token |\n|---|---|---|---|")
    for (method, mix), bench, times in zip(wanted, benches, zip(*found, strict=True), strict=True):
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        print(f"| {method} | {mix} | {bench.tokens:,} | {spread} |")
    return 0


def _mix(size: str, rows: int, count: Callable[[str], int]) -> Mix:
    """About as many tokens of every mix: ten short documents for each long prompt."""
    return make_mix(MixSize.parse(size), rows * 10 if size == "short" else rows, 0, count)


def _profile(benches: Sequence[Bench]) -> int:
    for bench in benches:
        profiler = cProfile.Profile()
        profiler.runcall(bench.run)
        print(f"{bench.method}, {bench.mix.name}")
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(30)
    return 0


def _tokenizer(name: str) -> object:
    source = resolve(name)
    source = converted(source) if source.gguf else source
    return AutoTokenizer.from_pretrained(source.location, **source.load_arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmarking.host", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer is used")
    parser.add_argument("--method", choices=sorted({method for method, _ in CASES}), help="default: all")
    parser.add_argument("--rows", type=int, default=24, help="long prompts, and ten short ones for each (default 24)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions (default 5); the median is given")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
