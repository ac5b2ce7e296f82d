"""From settings to a `Plan`: list the inputs, find their common columns, cut them into shards, and store the result.

All files of a run share one schema: every Parquet file has the same columns of the same types (their order may differ);
for JSON Lines it is inferred from rows all over the corpus. Where JSON Lines come in and go out no schema is needed and
objects pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from cluster.columns import Columns, without_foreign_metadata
from cluster.config import JobConfig
from cluster.errors import PlanConflict, SourceUnusable
from cluster.inputs import list_inputs, shown, still_there
from cluster.jsonl import Tally, read_objects
from cluster.ledger import Ledger
from cluster.parquet import Footer, read_footers
from cluster.plan import Identity, Plan
from cluster.planning import plan_shards
from cluster.schema import infer_schema
from cluster.shards import Shard, Source
from cluster.storage import Storage
from lingua.errors import ConfigError

SAMPLED_SHARDS = 256
SAMPLED_BYTES = 64 << 20


def open_plan(config: JobConfig, model_digest: str, ledger: Ledger) -> Plan:
    """The output's plan: the stored one if it fits (else PlanConflict), or a new one, stored."""
    stored = ledger.plan()
    if stored is None:
        return ledger.open_or_create(make_plan(config, model_digest))
    found = list_inputs(config.inputs, Storage(config.storage_options), config.output, stored.sources)
    try:
        stored.require_same(Identity.of(config, model_digest), found.sources, ledger.output)
    except PlanConflict as error:
        if ledger.committed():
            raise
        raise PlanConflict(f"{error}; nothing is committed there yet, so that folder can be deleted") from None
    return stored


def make_plan(config: JobConfig, model_digest: str) -> Plan:
    """The plan of a job; nothing is written. ConfigError or SourceUnusable when there is none."""
    storage = Storage(config.storage_options)
    found = list_inputs(config.inputs, storage, config.output)
    sources = found.sources
    footers = read_footers((source for source in sources if source.format == "parquet"), storage)
    shards = plan_shards(sources, config.shard_size, storage, footers)
    columns = find_columns(config, sources, shards, storage, footers)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    about = {"created": created, "run": config.shown_settings(), "left_out": found.left_out}
    return Plan(Identity.of(config, model_digest), columns, config.output_format, sources, tuple(shards), about)


def find_columns(
    config: JobConfig, sources: Sequence[Source], shards: Sequence[Shard], storage: Storage, footers: Sequence[Footer]
) -> Columns:
    """The schema that all files share and the mapped columns in it."""
    schema = _parquet_schema(footers)
    if schema is None:
        tally = Tally()
        schema = infer_schema(_sample([shard for shard in shards if shard.source.format == "jsonl"], storage, tally))
        if not schema.names:
            raise ConfigError(_nothing_in(sources, tally))
    everything_is_json = config.output_format == "jsonl" and all(source.format == "jsonl" for source in sources)
    try:
        mapped = config.mapped.or_defaults(schema.names)
        columns = Columns(mapped, schema, config.output_prefix)
        columns.require_usable(schema.names)
    except ConfigError as error:
        more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
        raise ConfigError(f"{sources[0].path}{more}: {error}") from None
    return Columns(mapped, None, config.output_prefix) if everything_is_json else columns


def _nothing_in(sources: Sequence[Source], tally: Tally) -> str:
    """Why no column is known: there is no line, none can be read, or all objects are empty."""
    names = ", ".join(shown(source.path) for source in sources[:3])
    names += f" and {len(sources) - 3:,} more files" if len(sources) > 3 else ""
    if tally.reasons:
        reason, count = tally.reasons.most_common(1)[0]
        return (
            f"no row of {names} can be read: of {tally.reasons.total() + tally.rows:,} lines that were looked at, "
            f"{count:,} are rejected as {reason}; {tally.example}"
        )
    if tally.rows:
        return f"no row of {names} has a column: {tally.rows:,} empty objects were looked at"
    return f"no rows in {names}: nothing to compress"


def _sample(shards: Sequence[Shard], storage: Storage, tally: Tally) -> Iterator[dict[str, Any]]:
    """Objects from the beginnings of shards that are spread evenly over the corpus; all objects of a small one."""
    step = max(1, -(-len(shards) // SAMPLED_SHARDS))
    chosen = shards[::step]
    for shard in chosen:
        with still_there(shard.source):
            yield from read_objects(shard, storage, SAMPLED_BYTES // len(chosen), tally)


def _parquet_schema(footers: Iterable[Footer]) -> pa.Schema | None:
    first: tuple[Source, pa.Schema] | None = None
    for footer in footers:
        source, schema = footer.source, without_foreign_metadata(footer.schema)
        _require_distinct(source, schema)
        if first is None:
            first = source, schema
        _require_equal(first[0], first[1], source, schema)
    return None if first is None else pa.schema([field.with_nullable(True) for field in first[1]], first[1].metadata)


def _require_distinct(source: Source, schema: pa.Schema) -> None:
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise SourceUnusable(f"{source.path}: two columns are called {twice!r}; rename one")


def _require_equal(first: Source, wanted: pa.Schema, source: Source, schema: pa.Schema) -> None:
    types = {field.name: field.type for field in schema}
    for name in {**dict.fromkeys(wanted.names), **dict.fromkeys(types)}:
        known = wanted.field(name).type if name in wanted.names else "absent"
        if types.get(name, "absent") != known:
            raise SourceUnusable(
                f"{source.path}: column {name!r} is {types.get(name, 'absent')}, but {known} in {first.path}; all "
                "files of a run share one schema: run files of another schema as a job of their own"
            )
