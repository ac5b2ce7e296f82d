"""`python -m jobs.benchmarking.actors`: several processes on one GPU, as its actors are: tokens per second, idle share.

All load once, each with its part of the card's memory; then one of them, two, four … compress prompts at once. Idle is
the time without a kernel of anybody, as `nvidia-smi` samples it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from jobs.benchmarking.contenders import Ours, load_subject
from jobs.benchmarking.hardware import parser
from jobs.benchmarking.prompts import MixSize, make_mix
from lingua.config import CompressionConfig
from lingua.models.sizing import Allowance
from lingua.text.tokens import SourceTokenizer

SMI = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=100")
_LATE = 10
"""The first samples, which speak of what ran before."""


def main(argv: Sequence[str] | None = None) -> int:
    given = parser("actors", __doc__)
    given.add_argument("--mix", default="fewshot", metavar="NAME[:TOKENS]", help="prompts to make (default fewshot)")
    given.add_argument("--rows", type=int, default=128, help="prompts of each actor (default 128)")
    given.add_argument("--actors", type=int, action="append", required=True, help="so many at once; repeatable")
    flags = given.parse_args(argv)
    flags.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"model": flags.model, "rows_per_actor": flags.rows, "mix": flags.mix, "actors": {}}
    actors = [started(flags, number) for number in range(max(flags.actors))]
    for actor in actors:
        found["peak"] = actor.recv()
    for number in sorted(flags.actors):
        found["actors"][number] = together(actors[:number])
        print(number, found["actors"][number], flush=True)
        (flags.output / "actors.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def started(flags: argparse.Namespace, number: int) -> Connection:
    """A process that ends with this one; it sends its sizes once it has loaded, then a record for whatever comes in."""
    spawn = multiprocessing.get_context("spawn")  # CUDA survives no fork
    ours, theirs = spawn.Pipe()
    spawn.Process(target=act, args=(flags, number, theirs), daemon=True).start()
    theirs.close()
    return ours


def act(flags: argparse.Namespace, number: int, pipe: Connection) -> None:
    """Load, then compress the same prompts whenever something comes in."""
    subject = load_subject(flags.model, (flags.device, flags.dtype), "llmlingua", seed=0)
    scorer = subject.scorer(Allowance(card=1 / max(flags.actors)))
    count = SourceTokenizer(subject.tokenizer).count
    prompts = make_mix(MixSize.parse(flags.mix), flags.rows, number, count).prompts
    tokens = sum(count(prompt.text) for prompt in prompts)
    ours = Ours("lingua", subject, scorer, CompressionConfig(method="llmlingua", rate=0.5))
    ours.run(prompts[: max(1, len(prompts) // 8)])
    pipe.send({"batch_tokens": scorer.batch_tokens, "live_tokens": scorer.live_tokens})
    while pipe.recv():
        pipe.send({"tokens": tokens, "model_tokens": ours.run(prompts).model_tokens})


def together(actors: Sequence[Connection]) -> dict[str, Any]:
    """All of them at once: original and model tokens per second from the first start to the last end."""
    with _utilization() as busy:
        began = time.monotonic()
        for actor in actors:
            actor.send("go")
        answers = [actor.recv() for actor in actors]
        seconds = time.monotonic() - began
    tokens, model = (sum(answer[name] for answer in answers) for name in ("tokens", "model_tokens"))
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "model_tokens_per_second": model / seconds,
        "idle_share": 1 - statistics.mean(busy) if busy else None,
        "samples": len(busy),
    }


@contextmanager
def _utilization() -> Iterator[list[float]]:
    """Filled at the end: shares of short stretches of time in which a kernel ran; none without nvidia-smi."""
    samples: list[float] = []
    if shutil.which(SMI[0]) is None:
        yield samples
        return
    with subprocess.Popen(SMI, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield samples
        finally:
            process.kill()
        lines = [line for line in process.stdout or () if line.strip().isdecimal()]
        samples += [int(line) / 100 for line in lines[_LATE:]]


if __name__ == "__main__":
    sys.exit(main())
