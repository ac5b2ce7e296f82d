"""`python -m jobs.evaluation.references SOURCE TARGET`: rows whose answer is what a target says to the whole prompt.

That is how LLMLingua's paper takes its references for arXiv: a compressed prompt is right as far as the same model
says the same. Writes the rows in the unified form, as JSON Lines, to standard output; `TARGET` is written as for
`--target` of `jobs.evaluate`. Rows that the target refuses or says nothing to are left out, and counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cluster.errors import ClusterError
from jobs.evaluation.forms import read
from jobs.evaluation.rows import EvalRow, template_of
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import Target
from jobs.evaluation.work import make_target
from jobs.generation import answered
from lingua.errors import LinguaError

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
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluation.references", description=__doc__)
    parser.add_argument("source", help="as for python -m jobs.evaluation.forms")
    parser.add_argument("target", help="'NAME: url=http://localhost:8000/v1 model=MODEL cache=FOLDER'")
    parser.add_argument("--max-tokens", type=int, default=512, help="of a reference (512)")
    parser.add_argument("--stop", action="append", default=[], help="string that ends a reference; repeatable")
    given = parser.parse_args(arguments)
    try:
        rows = list(read(given.source))
        config = EvalConfig(data={"set": given.source}, output="memory://references", targets=given.target)
        target, written = make_target(config.targets[0], config), 0
        for row in with_references(rows, target, given.max_tokens, given.stop):
            print(row.to_json())
            written += 1
    except (LinguaError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{written} of {len(rows)} rows have a reference", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
