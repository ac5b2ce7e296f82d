"""`python -m jobs.verify OUTPUT`: does an output hold every row of its inputs exactly once? Exit code 1 if not.

Credentials come from the variable LINGUA_STORAGE_OPTIONS, as those of jobs.compress do: command lines can be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from cluster.errors import ClusterError
from cluster.verify import verify
from lingua.errors import LinguaError

SHOWN = 50
VARIABLE = "LINGUA_STORAGE_OPTIONS"


def main(argv: Sequence[str] | None = None) -> int:
    """0: whole. 1: problems, each in a line. 2: it cannot be audited."""
    parser = argparse.ArgumentParser(prog="python -m jobs.verify", description=__doc__)
    parser.add_argument("output", help="the directory that jobs.compress wrote")
    parser.add_argument("--storage-options", metavar="JSON", help=f"for fsspec (default: the variable {VARIABLE})")
    arguments = parser.parse_args(argv)
    try:
        audit = verify(arguments.output, _options(arguments.storage_options))
    except (ClusterError, LinguaError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    print(audit.summary())
    for problem in audit.problems[:SHOWN]:
        print(problem)
    if len(audit.problems) > SHOWN:
        print(f"… and {len(audit.problems) - SHOWN} more problems")
    return 1 if audit.problems else 0


def _options(flag: str | None) -> dict[str, object]:
    """Storage options from the flag, else from the environment. They are not repeated in the error."""
    name, text = (VARIABLE, os.environ.get(VARIABLE, "{}")) if flag is None else ("--storage-options", flag)
    try:
        options = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise LinguaError(f"{name} must be a JSON object (its value is not shown here)")
    return options


if __name__ == "__main__":
    sys.exit(main())
