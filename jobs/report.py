"""`python -m jobs.report OUTPUT`: make the HTML report of an output again, also while its run goes on.

Credentials come from the variable LINGUA_STORAGE_OPTIONS, as those of jobs.compress do: command lines can be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from cluster.command import Command
from cluster.output.ledger import Ledger
from cluster.report.page import gather, render
from cluster.stopping import EXIT_SETTINGS, exit_code
from jobs.verify import VerifyConfig


class ReportConfig(VerifyConfig):
    command: ClassVar[Command] = Command(
        "jobs.report",
        "OUTPUT [any setting below]",
        "Make the HTML report of an output again, of a run that goes on too.",
        positional="output",
    )

    price: tuple[str, ...] = Field(
        (), description="NAME=PRICE of a million prompt tokens at a model, e.g. 'gpt-4o=2.50'"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """0: written, and where it is. 2: there is nothing to report on."""
    return exit_code(lambda: _report(ReportConfig.load(argv)), aborted=EXIT_SETTINGS)


def _report(config: ReportConfig) -> int:
    ledger = Ledger(config.output, config.storage_options)
    print(ledger.write_report(render(gather(ledger, config.price))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
