"""A whole job in one process, without Ray: what worker and driver do, reduced to its order of calls."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.config import JobConfig
from cluster.input.reader import read_rows
from cluster.input.shards import BadRow, Row, Shard
from cluster.output.lease import Lease
from cluster.output.ledger import Ledger
from cluster.output.parts import PartWriter
from cluster.output.plan import Plan
from cluster.output.prepare import draft_plan
from lingua.errors import PromptError
from lingua.prompt import Outcome, Rejected
from tests.fakes import FakeCompressor

DIGEST = "d" * 64


def job(inputs: object, output: object, **settings: Any) -> JobConfig:
    """Settings with a fake model."""
    listed = tuple(map(str, inputs)) if isinstance(inputs, (list, tuple)) else (str(inputs),)
    return JobConfig(input=listed, output=str(output), model="fake", **settings)


def open_plan(config: JobConfig, model_digest: str, ledger: Ledger) -> Plan:
    """The output's plan, stored, as the job makes it. PlanConflict when the output was begun otherwise."""
    return ledger.open_or_create(draft_plan(config, model_digest, ledger))


def acquire_lease(ledger: Ledger, owner: str, seconds: float) -> Lease:
    """Become the one driver of an output, without waiting. LeaseError tells who is."""
    return Lease.acquire(ledger.storage, ledger.url, owner, seconds)


def run(config: JobConfig, only: Iterable[str] | None = None) -> Plan:
    """Plan the job and commit its shards (those named in `only`)."""
    ledger = Ledger(config.output, config.storage_options)
    plan = open_plan(config, DIGEST, ledger)
    for shard in plan.shards:
        if only is None or shard.name in only:
            run_shard(plan, shard, ledger)
    return plan


def run_shard(plan: Plan, shard: Shard, ledger: Ledger) -> str:
    """Compress and commit one shard."""
    compressor = FakeCompressor()
    with PartWriter(plan, shard) as writer:
        for item in read_rows(shard, plan.columns, ledger.storage):
            writer.add(item, outcome_of(plan, item, compressor))
        return ledger.commit(plan, shard, writer.finish(), seconds=0.5)


def outcome_of(plan: Plan, item: Row | BadRow, compressor: FakeCompressor) -> Outcome:
    """What becomes of one row."""
    if isinstance(item, BadRow):
        return Rejected(item.reason, item.detail)
    try:
        return compressor.compress([plan.columns.prompt(item.values)])[0]
    except PromptError as error:
        return Rejected(error.reason, error.detail)


def rejects(output: object) -> list[dict[str, Any]]:
    """All rejected rows of a local output, in order."""
    files = sorted(Path(str(output)).glob("_rejects/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
