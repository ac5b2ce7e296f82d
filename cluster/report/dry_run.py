"""The dry run: what a run is about to do, in words; with `reuse` what it would take over. Nothing is written.

Rows of shards that did not change are known from the earlier records. Rows of the others are looked up as the workers
would, which means reading them; of many shards a few, spread evenly, are read, and the words say so.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from cluster.config import JobConfig
from cluster.input.columns import ROLES
from cluster.input.reader import read_rows
from cluster.input.shards import Row, Source, shown
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import draft_plan
from cluster.output.records import counted
from cluster.output.reuse import Previous, RowReuse, open_previous
from lingua.methods import models_digest
from lingua.models.source import resolve

SHOWN_FILES = 10
LOOKED_AT = 16
"""Changed shards whose rows are looked up."""


def describe(config: JobConfig, plan: Plan, committed: Collection[str], reuse: str | None = None) -> str:
    """The plan for people: files, shards, rows if known, columns, what would be reused, settings."""
    done = sum(shard.name in committed for shard in plan.shards)
    lines = [
        f"output     {config.output}",
        f"shards     {len(plan.shards):,} of about {config.shard_size:,} bytes, {done:,} of them committed",
        f"rows       {_rows(plan)}",
        *([f"reuse      {reuse}"] if reuse else []),
        f"columns    {_columns(plan)}",
        f"files      {len(plan.sources):,} with {sum(source.size for source in plan.sources):,} bytes",
        *(f"           {_file(source)}" for source in plan.sources[:SHOWN_FILES]),
    ]
    if len(plan.sources) > SHOWN_FILES:
        lines.append(f"           … and {len(plan.sources) - SHOWN_FILES:,} more")
    lines += [*notices(plan), *(f"extended   {line}" for line in plan.history)]
    settings = config.shown_settings()
    return "\n".join([*lines, "settings", *(f"  {key}: {json.dumps(value)}" for key, value in settings.items())])


def notices(plan: Plan) -> list[str]:
    """What does not become of the inputs what one might expect."""
    told = (
        ("left out   {}", plan.about.get("left_out")),
        ("retyped    {}: Arrow has no such types; values pass, typed as what stores them", plan.about.get("stored_as")),
    )
    return [line.format(what) for line, what in told if what]


def _rows(plan: Plan) -> str:
    known = [shard.rows for shard in plan.shards if shard.rows is not None]
    unknown = len(plan.shards) - len(known)
    more = f", and those of {counted(unknown, 'file')}, counted as they are read" if unknown else ""
    return f"{sum(known):,}{more}"


def _columns(plan: Plan) -> str:
    mapped = plan.columns.mapped
    named = [f"{role} = {getattr(mapped, role)!r}" for role in ROLES if getattr(mapped, role) is not None]
    return ", ".join(named)


def _file(source: Source) -> str:
    packed = f", {source.compression}" if source.compression else ""
    return f"{shown(source.path)} ({source.size:,} bytes, {source.format}{packed})"


def pending(config: JobConfig) -> str:
    """The plan of a run in words. Raises what the run itself would, as far as no model is loaded for it."""
    for model in filter(None, (config.model, config.compression.own.second_model)):
        resolve(model)
    digest = models_digest(resolve(config.model), config.compression)
    previous, ledger = open_previous(config, digest), Ledger(config.output, config.storage_options)
    plan = draft_plan(config, digest, ledger, previous.plan.identity if previous else None)
    committed = ledger.committed()
    return describe(config, plan, committed, reusable(previous, plan, committed) if previous else None)


def reusable(previous: Previous, plan: Plan, committed: Collection[str]) -> str:
    """In words: how many rows of the shards that are not committed are known."""
    missing = [shard for shard in plan.shards if shard.name not in committed]
    unchanged = previous.unchanged(plan)
    same = [unchanged[shard.name] for shard in missing if shard.name in unchanged]
    changed = [shard for shard in missing if shard.name not in unchanged]
    chosen = changed[:: max(1, -(-len(changed) // LOOKED_AT))]
    lookup, storage = (
        RowReuse(previous.earlier(plan, committed), plan, previous.ledger.storage),
        previous.ledger.storage,
    )
    seen = found = 0
    for shard in chosen:
        for item in lookup.over(shard, read_rows(shard, plan.columns, storage)):
            seen += 1
            found += isinstance(item, Row) and item.earlier is not None
    scale = len(changed) / len(chosen) if chosen else 1
    rows = sum(record.rows for record in same) + round(seen * scale)
    known = sum(record.rows - record.rejected for record in same) + round(found * scale)
    if len(chosen) == len(changed):
        return f"{previous.ledger.output}: {known:,} of {rows:,} rows reused; {rows - known:,} to compress"
    looked = f"{len(chosen)} of {len(changed):,} changed shards were looked at"
    return f"{previous.ledger.output}: about {known / max(1, rows):.1%} of the rows reused ({looked})"
