"""`python -m jobs.benchmarking.host`: what the engine costs its host, in microseconds of CPU per original token.

A scorer that computes nothing answers from the ids alone, and its own time is left out, so that only tokenization,
selection and bookkeeping count: what a device must not wait for. Packing rows into tensors is a scorer's, not measured.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from jobs.benchmarking.prompts import Mix, MixSize, make_mix
from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, ScoreCache, Scorer
from lingua.models.load import Loader
from lingua.models.source import resolve
from lingua.prompt import CompressedPrompt
from lingua.text.tokens import SourceTokenizer

CASES = (
    ("llmlingua", "fewshot"),
    ("llmlingua", "short"),
    ("selective", "short"),
    ("llmlingua2", "long:5000"),
    ("evidence", "fewshot"),
    ("evidence", "short"),
)
"""Methods and the mixes that they are measured on."""


class BlankScorer(Scorer):
    """Answers from the ids alone: numbers in [0, 10) for a model's surprisal, directions for the states of tokens.

    seconds   CPU time spent in here, which is none of the engine's
    """

    window, batch_tokens, live_tokens, probe_tokens = 8_192, 16_384, 1 << 22, 4_096

    def __init__(self, vectors: bool) -> None:
        self._vectors = vectors
        self.seconds = 0.0

    def cached(self, context: Context) -> int:
        return max(0, len(context) - 1)

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        started = time.process_time()
        answers = [self._answer(np.asarray(row.probe, np.int64)) for row in rows]
        self.seconds += time.process_time() - started
        return answers

    def _answer(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Answer:
        if self._vectors:
            angles = ids % 628 / 100
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        return ((31 * np.concatenate([[0], ids[:-1]]) + 17 * ids) % 1009 / 100.9).astype(np.float32)


def cost(method: str, mix: Mix, tokenizer: SourceTokenizer, tokens: int) -> float:
    """Compress a mix of so many tokens; microseconds of CPU for each of them, the scorer's left out."""
    config = CompressionConfig(method=method, rate=0.5)
    reader = tokenizer if config.own.needs == "sentences" else None
    drafter = Drafter(tokenizer, tokenizer, config, BlankScorer.probe_tokens, reader=reader)
    scorer = BlankScorer(vectors=reader is not None)
    engine: Engine[CompressedPrompt] = Engine(scorer, cache=ScoreCache())
    began = time.process_time()
    list(engine.run(compress_one(prompt, drafter) for prompt in mix.prompts))
    return (time.process_time() - began - scorer.seconds) / tokens * 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table with a row for every case."""
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmarking.host", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer is used")
    parser.add_argument("--rows", type=int, default=24, help="long prompts, and ten short ones for each (default 24)")
    parser.add_argument("--rounds", type=int, default=5, help="each on other texts (default 5); the median is given")
    flags = parser.parse_args(argv)
    loaded = Loader(resolve(flags.model)).tokenizer()
    tokenizer, count = SourceTokenizer(loaded), SourceTokenizer(loaded).count  # so that the measured one sees new texts
    gc.freeze()  # what the libraries hold is not gone through in the middle of one case
    found: dict[tuple[str, str], list[tuple[int, float]]] = {case: [] for case in CASES}
    for seed in range(flags.rounds + 1):
        for (method, size), costs in found.items():
            mix = make_mix(MixSize.parse(size), flags.rows * 10 if size == "short" else flags.rows, seed, count)
            tokens = sum(count(prompt.text) for prompt in mix.prompts)
            costs.append((tokens, cost(method, mix, tokenizer, tokens)))
    print("| method | prompts | tokens | host µs per original token |\n|---|---|---|---|")
    for (method, size), (_, *costs) in found.items():  # the first warms up
        tokens, times = sum(tokens for tokens, _ in costs), [one for _, one in costs]
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        print(f"| {method} | {size} | {tokens:,} | {spread} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
