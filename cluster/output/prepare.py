"""From settings to a `Plan`: list the inputs, find their common columns, cut them into shards, and store the result.

All files of a run share one schema: every Parquet file has the same columns of the same types (their order may differ);
for JSON Lines it is inferred from rows all over the corpus. Where JSON Lines come in and go out no schema is needed and
objects pass as they are.

An output that is there goes on with its stored plan. `resume` may ask for more: new files of the inputs are cut into
shards behind those that are planned (`grown`), as far as the output's columns can hold them, or rejected rows are tried
again (`plan_retries`), in shards of their own: the rows of a range that one attempt rejected (`Shard.retries`). Their
parts stand beside the old ones, which never change, and their records count instead of the old rejects
(`records.standing`). Once the plan with these shards is stored, and before a worker begins, the old lines move to
`_retried/`; so `_rejects/` holds what is rejected for all that is known. What moved is still needed: it says which rows
the new shards have, and should the old part be made again, the same rows are rejected again, since their outcomes stand
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cluster.config import JobConfig
from cluster.errors import DamagedFile, PlanConflict
from cluster.input.columns import USUAL, Columns
from cluster.input.cutting import plan_shards
from cluster.input.inputs import list_inputs
from cluster.input.jsonl import Tally, read_objects
from cluster.input.parquet import Footer, read_footers
from cluster.input.schema import encoding_of, infer_schema, unplanned_name
from cluster.input.shards import Shard, Source, shown, still_there
from cluster.input.unify import common_schema, misfit, with_folders, with_int96_unit
from cluster.output.ledger import Ledger
from cluster.output.plan import Identity, Plan
from cluster.output.records import counted, standing
from cluster.storage.storage import Storage
from lingua.errors import ConfigError

SAMPLED_SHARDS = 256
SAMPLED_BYTES = 64 << 20


def draft_plan(config: JobConfig, model_digest: str, ledger: Ledger) -> Plan:
    """The output's stored plan if it fits, or its next generation, else a new one; nothing is written.

    PlanConflict when the output was begun otherwise and holds a part already. As long as it holds none, the settings
    may be corrected: the holder of the lease stores the new plan over the old one (`Ledger.open_or_create`).
    """
    try:
        if (stored := ledger.plan()) is not None:
            return _resumed(config, model_digest, ledger, stored)
    except PlanConflict:
        if ledger.begun():
            raise
    if config.resume == "retry-rejected":
        raise ConfigError(f"resume = retry-rejected: {config.output} holds nothing yet that could be tried again")
    return make_plan(config, model_digest)


def _resumed(config: JobConfig, model_digest: str, ledger: Ledger, stored: Plan) -> Plan:
    """A stored plan, or what becomes of it by `resume`. PlanConflict where it was made for something else."""
    storage = Storage(config.storage_options)
    found = list_inputs(config.inputs, storage, config.output, stored.sources)
    known = {source.path for source in stored.sources}
    new = [source for source in found.sources if source.path not in known and config.resume == "grow"]
    old = [source for source in found.sources if source.path in known or config.resume != "grow"]
    stored.require_same(Identity.of(config, model_digest), old, ledger.url)
    if new and not ledger.begun():
        raise PlanConflict(f"{ledger.url}: nothing is committed yet, so all inputs are planned together")
    if new:
        return grown(stored, new, config, storage)
    return plan_retries(stored, ledger) if config.resume == "retry-rejected" else stored


def grown(plan: Plan, new: Sequence[Source], config: JobConfig, storage: Storage) -> Plan:
    """The next generation of a plan, with more files. ConfigError where the planned columns cannot hold theirs."""
    footers = with_int96_unit(read_footers(new, storage), storage)
    _require_columns(plan, new, footers)
    shards = plan_shards(new, config.shard_size, storage, footers, first=len(plan.shards))
    return plan.extended(f"{counted(len(new), 'new file')} in {counted(len(shards), 'shard')}", new, shards)


def _require_columns(plan: Plan, new: Sequence[Source], footers: Sequence[Footer]) -> None:
    """ConfigError unless all that new files hold has its place in the columns of a plan."""
    columns, typed_before = plan.columns, any(source.typed for source in plan.sources)
    for source in new:
        if other := next((name for name in source.folders if name not in columns.folders), None):
            raise _unfit(source, f"the name of its folder gives a column {other!r}, which the output has not")
        if not (source.typed or columns.objects or unplanned_name(columns.schema)):
            raise _unfit(source, "is JSON Lines, and the columns of the output are those of Parquet files alone")
        if source.typed and not typed_before:
            raise _unfit(source, "is Parquet, and the output was planned for JSON Lines alone")
    _require_everywhere(columns.mapped.all, footers)
    typed = pa.schema([field for field in columns.schema or () if encoding_of(field) != "json"])
    for footer in with_folders(footers):
        if (field := misfit(footer, typed)) is not None:
            raise _unfit(footer.source, f"the output has no column that holds all of its {field.name!r} ({field.type})")


def _unfit(source: Source, why: str) -> ConfigError:
    return ConfigError(f"resume = grow: {shown(source.path)}: {why}; begin another output, with --reuse of this one")


def plan_retries(plan: Plan, ledger: Ledger) -> Plan:
    """The next generation of a finished output's plan, with its rejected rows in shards of their own.

    The same plan, and a note, where the output is not finished or nothing in it is rejected. DamagedFile where a
    commit record is none, or the rejects of a commit are not what it wrote.
    """
    if {shard.name for shard in plan.shards} - ledger.committed():
        print("note: the output is not finished: what is missing is done first; start again to retry what is rejected")
        return plan
    if not (rejecting := [record for record in standing(ledger.records()) if record.rejected]):
        print("note: no row of the output is rejected: there is nothing to retry")
        return plan
    if lost := next((record for record in rejecting if not ledger.lists_rejects(record)), None):
        part = ledger.part_url(plan, lost.shard)
        raise DamagedFile(f"{ledger.rejects_url(lost)} is gone or changed: delete {part}; the next start makes both")
    numbered = enumerate(rejecting, len(plan.shards))
    shards = [record.shard.again(at, record.attempt, record.rejected) for at, record in numbered]
    rows = sum(record.rejected for record in rejecting)
    return plan.extended(f"{counted(rows, 'rejected row')} tried again in {counted(len(shards), 'shard')}", (), shards)


def make_plan(config: JobConfig, model_digest: str) -> Plan:
    """The plan of a job; nothing is written. ConfigError or SourceUnusable when there is none."""
    storage = Storage(config.storage_options)
    found = list_inputs(config.inputs, storage, config.output)
    sources = found.sources
    footers = with_int96_unit(read_footers(sources, storage), storage)
    shards = plan_shards(sources, config.shard_size, storage, footers)
    columns = find_columns(config, sources, shards, storage, footers)
    if not shards:
        raise ConfigError(_nothing_in(sources, Tally()))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"created": created, "run": config.shown_settings(), "left_out": found.left_out}
    if lacking := dict.fromkeys(name for footer in footers for name in footer.lacking):
        about["stored_as"] = ", ".join(lacking)
    return Plan(Identity.of(config, model_digest), columns, config.output_format, sources, tuple(shards), about)


def find_columns(
    config: JobConfig, sources: Sequence[Source], shards: Sequence[Shard], storage: Storage, footers: Sequence[Footer]
) -> Columns:
    """The columns of all files, and which of them are mapped."""
    folders = tuple(dict.fromkeys(name for source in sources for name in source.folders))
    footers = with_folders(footers)
    lines = [shard for shard in shards if not shard.source.typed]
    with_rows = [footer for footer in footers if any(group.rows for group in footer.groups)]
    described = with_rows if lines else footers
    parquet = common_schema(described, storage) if described else None
    tally = Tally()
    inferred = infer_schema(_sample(lines, storage, tally), {*config.mapped.all, *USUAL})
    known = parquet or pa.schema([])
    if lines:  # whose rows may lack any column
        known = pa.schema([field.with_nullable(True) for field in known], known.metadata)
    names = set(known.names)
    schema = pa.schema([*known, *(field for field in inferred if field.name not in names)], known.metadata)
    if not schema.names:
        raise ConfigError(_nothing_in(sources, tally))
    objects = config.output_format == "jsonl"
    try:
        mapped = config.mapped.or_defaults(schema.names)
        budgets = config.compression.keep_order, config.further_rates or ()
        columns = Columns(mapped, schema, config.output_prefix, objects, folders, *budgets).with_unplanned(bool(lines))
        columns.require_usable(schema.names, set(schema.names) - names)
        _require_everywhere(mapped.all, with_rows)
    except ConfigError as error:
        more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
        raise ConfigError(f"{sources[0].path}{more}: {error}") from None
    return columns if parquet or not objects else replace(columns, schema=None)


def _require_everywhere(names: Sequence[str], footers: Sequence[Footer]) -> None:
    """ConfigError unless every Parquet file has these columns: what a file lacks would be null."""
    for footer in footers:
        if lacking := [name for name in names if footer.schema.get_field_index(name) < 0]:
            raise ConfigError(
                f"{shown(footer.source.path)} has no column {lacking[0]!r}, which is in other files and mapped; leave "
                "the file out, or give it the column"
            )


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
