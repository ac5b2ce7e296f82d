"""Scaling of a real job over workers of one thread each, and what a worker's start takes.

    python -m tests.cluster.measure_workers --rows 48 --rounds 2

The same documents are compressed by `jobs.compress` on a local Ray with 1 and with 2 workers, in alternate order. Every
worker notes when it began and ended each shard and the processor time it took. Prints one JSON object: for each run the
seconds from the first shard's beginning to the last one's end and the workers' processor seconds, both without starts;
their ratios, 1 against N workers, as `efficiency` (medians of the rounds); and the starts: seconds from
importing torch until the model is ready.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cluster.config import JobConfig
from cluster.run.worker import load_compressor
from jobs.benchmarking.prompts import document
from jobs.compress import main as compress
from lingua.prompt import Outcome, Prompt

CHARACTERS = 1_100
"""Of a document: about 250 tokens, and with its keys just over the least shard size, so that each is a shard."""


def timed(folder: Path, make: Callable[[JobConfig], Any], config: JobConfig) -> Any:
    """A compressor that notes in `folder` what its start and each of its streams took."""
    begun, worked = time.time(), time.process_time()
    compressor = make(config)
    seconds = {"start": time.time() - begun, "start_cpu": time.process_time() - worked}
    stream = compressor.stream

    def noted(prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        begun, worked = time.time(), time.process_time()
        yield from stream(prompts)
        note = {"begun": begun, "ended": time.time(), "cpu": time.process_time() - worked, **seconds}
        with (folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")

    compressor.stream = noted
    return compressor


def run(folder: Path, corpus: Path, workers: int, flags: list[str]) -> dict[str, Any]:
    """One job with so many workers."""
    notes = folder / "notes"
    notes.mkdir(parents=True)
    arguments = ["--input", str(corpus), "--output", str(folder / "out"), "--shard-size", "1024", *flags]
    arguments += ["--workers", str(workers), "--cpus-per-worker", "1", "--report-samples", "0"]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = compress(arguments, make_compressor=partial(timed, notes, load_compressor))
    if code:
        raise RuntimeError(f"the job ended with {code}: {told.getvalue()}")
    by_worker = [[json.loads(line) for line in file.read_text().splitlines()] for file in notes.iterdir()]
    shards = [note for one in by_worker for note in one]
    found = {
        "workers": len(by_worker),
        "shards": len(shards),
        "seconds": round(max(one["ended"] for one in shards) - min(one["begun"] for one in shards), 2),
        "cpu_seconds": round(sum(one["cpu"] for one in shards), 2),
        "starts": [round(one[0]["start"], 1) for one in by_worker],
        "starts_cpu": [round(one[0]["start_cpu"], 1) for one in by_worker],
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def measure(folder: Path, rows: int, rounds: int, flags: list[str]) -> dict[str, Any]:
    corpus, dice = folder / "in.jsonl", random.Random(0)
    corpus.write_text("".join(json.dumps({"text": document(CHARACTERS, dice)}) + "\n" for _ in range(rows)))
    order = [(number, workers) for number in range(rounds) for workers in ((1, 2), (2, 1))[number % 2]]
    runs = [run(folder / f"{number}-{workers}", corpus, workers, flags) for number, workers in order]
    return {"rows": rows, "runs": runs, "efficiency": efficiency(runs)}


def efficiency(runs: list[dict[str, Any]]) -> dict[str, float]:
    """What one worker takes for the corpus, divided by what N take together: by the clock, and in processor time."""

    def median(workers: int, what: str) -> float:
        return statistics.median(one[what] for one in runs if one["workers"] == workers)

    most = max(one["workers"] for one in runs)
    return {
        "by_clock": round(median(1, "seconds") / median(most, "seconds") / most, 2),
        "by_processor": round(median(1, "cpu_seconds") / median(most, "cpu_seconds"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.measure_workers")
    parser.add_argument("--rows", type=int, default=48, help="documents of about 250 tokens (default 48)")
    parser.add_argument("--rounds", type=int, default=2, help="of both numbers of workers (default 2)")
    chosen, flags = parser.parse_known_args()
    flags = flags or ["--method", "selective", "--dtype", "float32", "--device", "cpu"]
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(Path(name), chosen.rows, chosen.rounds, flags)))


if __name__ == "__main__":
    main()
