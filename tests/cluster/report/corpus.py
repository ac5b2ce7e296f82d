"""A finished output in a folder, made by the worker with a compressor without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.output.records import Statistics
from cluster.protocol import Assignment, ShardReport
from cluster.report.statistics import RunReport, facts
from cluster.run.worker import Worker
from tests.cluster.jobs_for_tests import open_plan
from tests.fakes import FakeCompressor


def finished(
    folder: Path, texts: Iterable[str | None], only: int | None = None, ids: Sequence[str] = (), **settings: Any
) -> Ledger:
    """Compress documents (None: a line that is no JSON) in shards of about 1 KiB; `only` so many shards.

    The first are called `ids`, the others by their number.
    """
    named = zip_longest(texts, ids)
    lines = [
        "{" if text is None else json.dumps({"id": id or f"doc-{n}", "text": text})
        for n, (text, id) in enumerate(named)
    ]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")
    config = JobConfig(
        input=str(folder / "in.jsonl"),
        output=str(folder / "out"),
        **{"shard_size": 1024, "id_column": "id", **settings},
    )
    ledger = Ledger(config.output)
    plan = open_plan(config, "d" * 64, ledger)
    worker = Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor())
    for shard in plan.shards[:only]:
        report = worker.attempt(Assignment(shard))
        assert isinstance(report, ShardReport), report
    total = Statistics.over(ledger.records())
    ledger.write_stats(RunReport(len(plan.shards), total, total, 12.0).as_json(facts(config, plan)))
    return ledger
