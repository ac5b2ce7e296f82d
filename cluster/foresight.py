"""`outlook`: what a run is about to do, for the dry run; with `reuse` what it would take over. Nothing is written.

Shards that did not change are told from the plans alone. Rows of the others are looked up as the workers would, which
means reading them; of many shards a few, spread evenly, are read, and the words say so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cluster.config import JobConfig
from cluster.corpus import read_rows
from cluster.describe import describe
from cluster.ledger import Ledger
from cluster.plan import Plan
from cluster.prepare import make_plan
from cluster.recall import Recall
from cluster.reuse import Previous, open_previous
from cluster.rows import Row
from cluster.shards import Shard
from lingua.methods import models_digest, second_model
from lingua.models.source import resolve

LOOKED_AT = 16
"""Changed shards whose rows are looked up."""


def outlook(config: JobConfig) -> str:
    """The plan of a run in words. Raises what the run itself would, as far as no model is loaded for it."""
    for model in filter(None, (config.model, second_model(config.compression))):
        resolve(model)
    digest = models_digest(resolve(config.model), config.compression) if config.reuse else ""
    previous = open_previous(config, digest)
    plan = make_plan(config, digest, previous.plan.identity if previous else None)
    committed = Ledger(config.output, config.storage_options).committed()
    return describe(config, plan, committed, foresee(previous, plan, committed) if previous else None)


def foresee(previous: Previous, plan: Plan, committed: Collection[str]) -> str:
    """In words: shards as they are, and how many rows of the others are known."""
    rows = {shard.name: record.rows for record, shard in previous.twins(plan, committed)}
    rest = [shard for shard in plan.shards if shard.name not in rows and shard.name not in committed]
    whole = f"{len(rows):,} of {len(plan.shards):,} shards as they are, {sum(rows.values()):,} rows"
    return f"{previous.ledger.output}: {whole}; {_others(previous, plan, rest, committed)}"


def _others(previous: Previous, plan: Plan, rest: Sequence[Shard], committed: Collection[str]) -> str:
    if not rest:
        return "nothing is left for the model"
    chosen = rest[:: max(1, -(-len(rest) // LOOKED_AT))]
    recall = Recall(previous.earlier(plan, committed), plan, previous.ledger.storage)
    seen = known = 0
    for shard in chosen:
        for item in recall.over(shard, read_rows(shard, plan.columns, previous.ledger.storage)):
            seen += 1
            known += isinstance(item, Row) and item.earlier is not None
    if len(chosen) == len(rest):
        return f"of the {seen:,} rows of the others {known:,}, the model sees {seen - known:,}"
    share = known / seen if seen else 0.0
    return f"of the rows of the other {len(rest):,} about {share:.1%} ({len(chosen)} of these shards were looked at)"
