"""`python -m jobs.evaluation.forms SOURCE…`: writes sources in the unified form, as JSON Lines, to standard output."""

from __future__ import annotations

import sys

from jobs.evaluation.forms import FORMS, read
from lingua.errors import ConfigError


def main(arguments: list[str]) -> int:
    """The exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\nForms: {', '.join(FORMS)}. Options follow a #: test.jsonl#demonstrations=prompt.txt&limit=9")
        return 0 if arguments else 2
    try:
        for source in arguments:
            for row in read(source):
                print(row.to_json())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
