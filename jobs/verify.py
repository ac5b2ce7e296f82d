"""`python -m jobs.verify OUTPUT`: does an output hold every row of its inputs exactly once? Exit code 1 if not.

Credentials come from the variable LINGUA_STORAGE_OPTIONS, as those of jobs.compress do: command lines can be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from cluster.command import Command
from cluster.config import Written
from cluster.output.verify import verify
from cluster.settings import Settings
from cluster.stopping import EXIT_SETTINGS, exit_code

SHOWN = 50


class VerifyConfig(Settings):
    command: ClassVar[Command] = Command(
        "jobs.verify",
        "OUTPUT [any setting below]",
        "Does an output hold every row of its inputs exactly once? Exit code 1 if not.",
        positional="output",
    )

    output: Written = Field(description="the directory that jobs.compress wrote")
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False, description="for fsspec, as JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """0: whole. 1: problems, each in a line. 2: it cannot be audited."""
    return exit_code(lambda: _verify(VerifyConfig.load(argv)), aborted=EXIT_SETTINGS)


def _verify(config: VerifyConfig) -> int:
    audit = verify(config.output, config.storage_options)
    print(audit.summary(), audit.tokens, *audit.problems[:SHOWN], sep="\n")
    if len(audit.problems) > SHOWN:
        print(f"… and {len(audit.problems) - SHOWN} more problems")
    return 1 if audit.problems else 0


if __name__ == "__main__":
    sys.exit(main())
