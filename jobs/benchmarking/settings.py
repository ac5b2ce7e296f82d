"""The benchmark's settings: flags → one frozen record. `--small` is a preset that two CPU cores finish in minutes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmarking.mixes import MIXES, MixSize
from lingua.errors import ConfigError
from lingua.methods import METHODS

EXAMPLES = """examples:
  python -m jobs.benchmark --small
  python -m jobs.benchmark --mix fewshot --rows 4 --dtype float32 --rounds 3
  python -m jobs.benchmark --model shape:llama-2-7b --mix fewshot --rows 128 --slow-rows 4 --output bench-output/7b
  python -m jobs.benchmark --data rows.jsonl --rows 50 --rate 0.3
  python -m jobs.benchmark --model shape:xlm-roberta-large --method llmlingua2 --mix long:5000

The peer runs in its own environment, which `python -m jobs.benchmarking.setup_peer` creates; without it its rows say
"not measured".
"""
WITH_MODEL = sorted(name for name, method in METHODS.items() if method.needs in ("causal", "encoder"))
"""Methods whose speed is a model's."""
OTHERS = ("single", "unshared", "default", "llmlingua", "plain")
"""Beside our engine: one prompt at a time, nothing shared, our default dtype, the peer, the plain forward."""
ALSO = ("compile", "evidence")
"""Other ways to compute a causal model, which may decide otherwise, and the method that asks none."""
SMALL: dict[str, object] = {"mixes": ["short", "fewshot:700"], "rows": 3, "rounds": 1}
FULL: dict[str, object] = {"mixes": ["short", "fewshot", "bank", "long", "mixed"], "rows": 32, "rounds": 3}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, on what, and where the report goes.

    slow_rows   rows for those that work one prompt at a time or share nothing; None: all
    dtype       of our engine and of the peer; where our default is another one, it is measured too
    gpu_memory  share of a GPU's free memory for one scorer: other ways to compute and the peer stand beside it
    only        which of OTHERS are measured beside our engine
    """

    model: str
    method: str
    rate: float
    device: str
    dtype: str
    mixes: tuple[MixSize, ...]
    data: Path | None
    rows: int
    slow_rows: int | None
    rounds: int
    batch_tokens: int | None
    gpu_memory: float
    only: tuple[str, ...]
    also: tuple[str, ...]
    threads: int | None
    seed: int
    peer_python: Path
    peer_path: Path | None
    output: Path | None


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Settings from flags. Raises ConfigError for what argparse cannot see."""
    flags = vars(_parser().parse_args(argv))
    preset = SMALL if flags.pop("small") else FULL
    flags |= {name: value for name, value in preset.items() if flags[name] is None}
    tokens = flags.pop("tokens")
    sizes = [MixSize.parse(text) for text in flags.pop("mixes")]
    flags["also"], flags["only"] = tuple(flags["also"]), tuple(filter(None, flags["only"].split(",")))
    flags["mixes"] = tuple(size if tokens is None else MixSize(size.name, tokens) for size in sizes)
    for name in ("rate", "gpu_memory"):
        if not 0 < flags[name] <= 1:
            raise ConfigError(f"--{name.replace('_', '-')} {flags[name]} is not a share between 0 and 1")
    unknown = set(flags["only"]) - {*OTHERS, "lingua"}
    if unknown:
        raise ConfigError(f"--only {min(unknown)}: no such contender; there are lingua, {', '.join(OTHERS)}")
    if flags["also"] and METHODS[flags["method"]].needs != "causal":
        raise ConfigError(f"--also {flags['also'][0]}: method {flags['method']} reads with no causal language model")
    for name in ("rows", "slow_rows", "rounds", "batch_tokens", "threads"):
        if flags[name] is not None and flags[name] < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {flags[name]} must be at least 1")
    return Settings(**flags)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark",
        description="Measure our engine against one prompt at a time, the public llmlingua and the hardware.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is compressed")
    what.add_argument("--small", action="store_true", help="few and short prompts, one round")
    mixes = f"prompts to make, repeatable: {', '.join(MIXES)}; with a size: long:8000"
    what.add_argument("--mix", dest="mixes", action="append", metavar="NAME[:TOKENS]", help=mixes)
    what.add_argument("--data", type=Path, help="JSON Lines with instruction, context, question; replaces the mixes")
    what.add_argument("--rows", type=int, help="prompts per mix (full: 32, small: 3)")
    what.add_argument("--tokens", type=int, help="tokens per prompt, for all mixes")
    what.add_argument(
        "--slow-rows", type=int, help="prompts for what runs one at a time or shares nothing (default: all)"
    )
    what.add_argument("--seed", type=int, default=0, help="of the prompts and of random weights (default 0)")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--model", default="smollm2-135m", help="a model as in jobs.compress, or shape:NAME (random weights)"
    )
    how.add_argument("--method", default="llmlingua", choices=WITH_MODEL, help="default llmlingua")
    how.add_argument("--rate", type=float, default=0.5, help="share of the tokens to keep (default 0.5)")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    how.add_argument("--dtype", default="float32", help="float32 (default), bfloat16, float16 or auto; also the peer's")
    how.add_argument("--batch-tokens", type=int, help="tokens per batch (default: the engine's choice)")
    how.add_argument(
        "--gpu-memory", type=float, default=0.3, help="share of a GPU's free memory for one scorer (default 0.3)"
    )
    only = f"beside our engine measure these alone, by commas: {', '.join(OTHERS)} (default: all)"
    how.add_argument("--only", default=",".join(OTHERS), metavar="NAMES", help=only)
    also = "our engine measured so as well, repeatable: a decoder compiled by torch, the method evidence"
    how.add_argument("--also", action="append", default=[], choices=ALSO, help=also)
    how.add_argument("--threads", type=int, help="of CPU work, everyone's (default: one per core)")
    how.add_argument("--rounds", type=int, help="alternating repetitions (full: 3, small: 1)")
    rest = parser.add_argument_group("peer and report")
    python = Path(".venv-reference/bin/python")
    rest.add_argument("--peer-python", type=Path, default=python, help=f"the peer's interpreter (default {python})")
    rest.add_argument(
        "--peer-path", type=Path, help="folder with the peer's packages, put before the interpreter's own"
    )
    rest.add_argument("--output", type=Path, help="write DIR/benchmark.json and DIR/benchmark.md; always printed")
    return parser
