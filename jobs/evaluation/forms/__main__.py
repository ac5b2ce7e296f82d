"""`python -m jobs.evaluation.forms SOURCE…`: writes sources in the unified form, as JSON Lines, to standard output.

With `--references TARGET` a row's answer is what that target (as for `--target` of jobs.evaluate) says to the whole
prompt. That is how LLMLingua's paper takes its references for arXiv: a compressed prompt is right as far as the same
model says the same. Rows that the target refuses or says nothing to are left out, and counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cluster.stopping import exit_code
from jobs.evaluation.forms import FORMS, read
from jobs.evaluation.rows import EvalRow, template_of
from jobs.evaluation.specs import Target
from jobs.generation import answered

AT_ONCE = 32


def with_references(rows: Iterable[EvalRow], target: Target, max_tokens: int, stop: Sequence[str]) -> Iterator[EvalRow]:
    """The rows with the target's reply to the whole prompt as their only answer; those without one are left out."""

    def replies(some: Sequence[EvalRow]) -> list[str]:
        return target.generate([template_of(row).prompt(row, row.context) for row in some], max_tokens, stop)

    remaining = iter(rows)
    while batch := list(islice(remaining, AT_ONCE)):
        for row, reply in zip(batch, answered(batch, replies, lambda *_: ""), strict=True):
            if reply.strip():
                yield replace(row, answers=(reply.strip(),), gold={})


def main(arguments: Sequence[str]) -> int:
    """0: written. 2: a source or the target is wrong. 1: the target does not answer."""
    return exit_code(lambda: write(_parser().parse_args(arguments)))


def write(given: argparse.Namespace) -> int:
    for source in given.source:
        rows = found = list(read(source))
        if given.references:
            found = list(with_references(rows, _target(given.references), given.max_tokens, given.stop))
            print(f"{len(found)} of {len(rows)} rows have a reference", file=sys.stderr)
        for row in found:
            print(row.to_json())
    return 0


def _target(written: str) -> Target:
    from jobs.evaluation.settings import EvalConfig
    from jobs.evaluation.work import make_target  # its libraries are only needed where somebody is asked

    config = EvalConfig(data={"set": "-"}, output="memory://references", targets=written)
    return make_target(config.targets[0], config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluation.forms", description=__doc__)
    parser.add_argument(
        "source", nargs="+", help=f"file, glob or dataset:…, options behind #; forms: {', '.join(FORMS)}"
    )
    parser.add_argument(
        "--references", metavar="TARGET", help="'NAME: url=http://localhost:8000/v1 model=… cache=FOLDER'"
    )
    parser.add_argument("--max-tokens", type=int, default=512, help="of a reference (512)")
    parser.add_argument("--stop", action="append", default=[], help="string that ends a reference; repeatable")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
