"""The end of an evaluation: what all units measured, added up and written beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from cluster.plan import Identity
from jobs.evaluation.files import EvalLedger
from jobs.evaluation.grid import Wave
from jobs.evaluation.render import markdown
from jobs.evaluation.report import render
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.table import Draws, summarize


def conclude(config: EvalConfig, ledger: EvalLedger, plan: Sequence[Wave], identity: Identity) -> str:
    """Put `summary.json`, `summary.md` and the report; the tables as text."""
    measured = list(ledger.measured(unit.name for wave in plan for unit in wave.units))
    baseline = (config.peers or [one.name for one in config.candidates])[0]
    summary = summarize(measured, baseline, Draws(config.resamples, config.seed or 0))
    info = about(config, identity)
    ledger.write("summary.json", json.dumps({**info, **summary.as_json()}, indent=1))
    text = markdown(summary)
    ledger.write("summary.md", text)
    page = ledger.write("report.html", render(summary, info))
    return f"{text}\n{page} draws this; summary.md and summary.json are beside it."


def about(config: EvalConfig, identity: Identity) -> dict[str, Any]:
    """What the results are of, for people."""
    return {
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": identity.model,
        "settings": dict(identity.settings),
        "resamples": config.resamples,
    }
