"""`python -m jobs.report OUTPUT`: make the HTML report of an output again, of a run that goes on too.

Credentials come from the variable LINGUA_STORAGE_OPTIONS, as those of jobs.compress do: command lines can be seen.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cluster.errors import ClusterError
from cluster.flags import json_object
from cluster.ledger import Ledger
from cluster.page.gather import gather
from cluster.page.render import render
from lingua.errors import LinguaError

VARIABLE = "LINGUA_STORAGE_OPTIONS"


def main(argv: Sequence[str] | None = None) -> int:
    """0: written, and where it is. 2: there is nothing to report on."""
    parser = argparse.ArgumentParser(prog="python -m jobs.report", description=__doc__)
    parser.add_argument("output", help="the directory that jobs.compress wrote")
    parser.add_argument(
        "--price",
        metavar="NAME=PRICE",
        action="append",
        help="price of a million prompt tokens at a model, e.g. 'gpt-4o=2.50'; repeatable (default: those of the run)",
    )
    given = os.environ.get(VARIABLE, "{}")
    parser.add_argument(
        "--storage-options", metavar="JSON", default=given, help=f"for fsspec (default: the variable {VARIABLE})"
    )
    arguments = parser.parse_args(argv)
    try:
        ledger = Ledger(arguments.output, json_object(arguments.storage_options))
        print(ledger.write_report(render(gather(ledger, arguments.price))))
    except (ClusterError, LinguaError, ValueError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
