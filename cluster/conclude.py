"""The end of a run: statistics and report beside the output, and word to a webhook.

The rows are committed by then. What goes wrong here with the report or the webhook is said and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.config import JobConfig
from cluster.describe import facts
from cluster.errors import ClusterError
from cluster.ledger import Ledger
from cluster.plan import Plan
from cluster.report import RunReport
from cluster.webhook import notify


def conclude(
    config: JobConfig, ledger: Ledger, plan: Plan, report: RunReport, say: Callable[[str], None] = print
) -> None:
    """Put `_stats.json`, then `_report.html`, then tell the webhook. A stopped run has no time for a report."""
    statistics = report.as_json(facts(config, plan))
    ledger.write_stats(statistics)
    if config.report and not report.stopped:
        _write_report(ledger, say)
    if config.webhook and (failure := notify(config.webhook, {"output": ledger.output, **statistics})):
        say(f"warning: {failure}; the run is not affected")


def _write_report(ledger: Ledger, say: Callable[[str], None]) -> None:
    from cluster.page.gather import gather  # the template engine is loaded where a page is made
    from cluster.page.render import render

    try:
        ledger.write_report(render(gather(ledger)))
    except (ClusterError, OSError, ValueError) as error:
        say(f"warning: no report was written ({error}); python -m jobs.report {ledger.output} makes it")
