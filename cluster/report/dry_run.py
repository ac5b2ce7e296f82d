"""The dry run: what a run is about to do, in words; with `reuse` what it would take over. Nothing is written.

Rows of shards that did not change are known from the earlier records. Rows of the others are looked up as the workers
would, which means reading them; of many shards a few, spread evenly, are read, and the words say so.

An estimate compresses a sample with the job's own model on this machine, one worker's work in this process, and
extrapolates by rows. Its range is that of a ratio estimator over groups of rows, two standard errors to each side.
"""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cluster.config import JobConfig
from cluster.input.columns import ROLES
from cluster.input.reader import RowForm, read_rows
from cluster.input.shards import Row, Shard, shown
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import draft_plan
from cluster.output.records import counted
from cluster.output.reuse import Previous, RowReuse, open_previous
from cluster.storage.storage import Storage
from lingua.errors import PromptError
from lingua.methods import models_digest
from lingua.models.source import resolve
from lingua.prompt import Prompt

SHOWN_FILES = 10
LOOKED_AT = 16
"""Shards that are looked into: changed ones for rows that are known, and those of a sample."""
SAMPLED_ROWS = 512
SECONDS = 60.0
SHORT = 2.0
"""Seconds for which a sample is compressed, and within which a group of its rows is too small to say much."""
ENOUGH = 0.5
"""The rate below which texts that are cut for questions not yet known visibly lose answers (docs/evaluation.md)."""
EFFICIENCY = 0.9
"""What several workers make of their number, at worst: two made 0.92 (docs/scale.md)."""


def describe(config: JobConfig, plan: Plan, committed: Collection[str], reuse: str | None = None) -> str:
    """The plan for people: files, shards, rows if known, columns, what would be reused, settings."""
    done = sum(shard.name in committed for shard in plan.shards)
    counts = [shard.rows for shard in plan.shards if not shard.retries]
    unknown = counts.count(None)
    more = f", and those of {counted(unknown, 'file')}, counted as they are read" if unknown else ""
    mapped = {role: name for role in ROLES if (name := getattr(plan.columns.mapped, role)) is not None}
    described = [(one.path, (f"{one.size:,} bytes", one.format, one.compression)) for one in plan.sources[:SHOWN_FILES]]
    hidden = len(plan.sources) - SHOWN_FILES
    lines = [
        f"output     {config.output}",
        f"shards     {len(plan.shards):,} of about {config.shard_size:,} bytes, {done:,} of them committed",
        f"rows       {sum(filter(None, counts)):,}{more}",
        *([f"reuse      {reuse}"] if reuse else []),
        f"columns    {', '.join(f'{role} = {name!r}' for role, name in mapped.items())}",
        f"files      {len(plan.sources):,} with {sum(source.size for source in plan.sources):,} bytes",
        *(f"           {shown(path)} ({', '.join(filter(None, about))})" for path, about in described),
        *([f"           … and {hidden:,} more"] if hidden > 0 else []),
    ]
    lines += [*notices(plan), *(f"extended   {line}" for line in plan.history)]
    settings = config.shown_settings()
    return "\n".join([*lines, "settings", *(f"  {key}: {json.dumps(value)}" for key, value in settings.items())])


def notices(plan: Plan) -> list[str]:
    """What does not become of the inputs what one might expect."""
    told = (
        ("note       at rate {} with no question known, every method loses much: see docs/evaluation.md", _blind(plan)),
        ("left out   {}", plan.about.get("left_out")),
        ("retyped    {}: Arrow has no such types; values pass, typed as what stores them", plan.about.get("stored_as")),
    )
    return [line.format(what) for line, what in told if what]


def _blind(plan: Plan) -> float | None:
    """The rate where it is too low for texts that are cut without their question."""
    settings = plan.identity.settings
    rate, asked = settings.get("rate", ENOUGH), plan.columns.mapped.question is not None
    known = asked and settings.get("focus_model") != "ignore"
    return None if known or rate is None or rate >= ENOUGH else rate


def pending(config: JobConfig, make_compressor: Callable[[JobConfig], Any]) -> str:
    """The plan of a run in words. Raises what the run itself would, as far as no model is loaded for it.

    make_compressor   loads the model; called where an estimate is asked for
    """
    digest = models_digest(resolve(config.model), config.compression)
    previous, ledger = open_previous(config, digest), Ledger(config.output, config.storage_options)
    plan = draft_plan(config, digest, ledger)
    committed = ledger.committed()
    told = describe(config, plan, committed, reusable(previous, plan, committed) if previous else None)
    missing = [shard for shard in plan.shards if shard.name not in committed]
    if config.dry_run != "estimate" or not missing:
        return told
    return f"{told}\n{estimate(config, plan, missing, make_compressor)}"


def reusable(previous: Previous, plan: Plan, committed: Collection[str]) -> str:
    """In words: how many rows of the shards that are not committed are known."""
    missing = [shard for shard in plan.shards if shard.name not in committed]
    unchanged = previous.unchanged(plan)
    same = [unchanged[shard.name] for shard in missing if shard.name in unchanged]
    changed = [shard for shard in missing if shard.name not in unchanged]
    chosen = changed[:: max(1, -(-len(changed) // LOOKED_AT))]
    storage = previous.ledger.storage
    lookup = RowReuse(previous.earlier(plan, committed), plan, storage)
    seen = found = 0
    for shard in chosen:
        for item in lookup.over(shard, read_rows(shard, plan.columns, storage)):
            seen += 1
            found += isinstance(item, Row) and item.earlier is not None
    scale = len(changed) / len(chosen) if chosen else 1
    rows = sum(record.rows for record in same) + round(seen * scale)
    known = sum(record.rows - record.rejected for record in same) + round(found * scale)
    if len(chosen) == len(changed):
        return f"{previous.ledger.url}: {known:,} of {rows:,} rows reused; {rows - known:,} to compress"
    looked = f"{len(chosen)} of {len(changed):,} changed shards were looked at"
    return f"{previous.ledger.url}: about {known / max(1, rows):.1%} of the rows reused ({looked})"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one worker is: `groups` are (rows, seconds); `usable` the share of the rows that hold a prompt."""

    groups: Sequence[tuple[int, float]]
    usable: float
    starting: float

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.groups)

    def seconds(self, rows: float) -> tuple[float, float]:
        """The least and the most that so many rows of the corpus take; of one group half and double."""
        mean, groups = sum(seconds for _, seconds in self.groups) / self.rows, len(self.groups)
        if groups < 2:
            low, high = mean / 2, mean * 2
        else:
            away = sum((seconds - mean * rows) ** 2 for rows, seconds in self.groups)
            error = 2 * math.sqrt(away * groups / (groups - 1)) / self.rows
            low, high = max(0.0, mean - error), mean + error
        return low * self.usable * rows, high * self.usable * rows


def estimate(config: JobConfig, plan: Plan, missing: Sequence[Shard], make: Callable[[JobConfig], Any]) -> str:
    """In words: rows, pace, memory and time of workers like one on this machine."""
    threads = max(1, int(config.cpus_per_worker or 1))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # as Ray does for a worker; read when torch is loaded
    storage = Storage(config.storage_options)
    began = time.perf_counter()
    compressor = make(config)
    starting = time.perf_counter() - began
    form, rows = RowForm.of(plan.columns, config.compression), _row_count(plan, missing, storage)
    sampled, prompts = list(_sampled(plan, missing, storage)), list[Prompt]()
    for row in sampled:
        with suppress(PromptError):
            prompts += [form.prompt(row.values)] if isinstance(row, Row) else []
    if not prompts:
        return f"estimate   none: of {len(sampled):,} sampled rows none holds a prompt"
    groups = measured(compressor, prompts)
    pace = Pace(groups, len(prompts) / len(sampled), starting)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    low, high = pace.seconds(1)
    lines = [
        f"estimate   of about {rows:,} rows to compress, as if none were reused",
        f"  measured {counted(pace.rows, 'row')} here by one worker, {counted(threads, 'thread')}: "
        f"{_between(low, high)} a row, {starting:.0f} s to start, {most:.1f} GiB of memory",
    ]
    asked = (config.workers,) if config.workers else (1, 8, 64)
    counts = dict.fromkeys(min(workers, len(missing)) for workers in asked)
    times = {workers: _between(*_spread(pace, rows, workers, missing)) for workers in counts}
    lines += [f"  time     {counted(workers, 'worker')}: {told}" for workers, told in times.items()]
    hours = [seconds / 3600 for seconds in pace.seconds(rows)]
    lines.append(f"  price    {hours[0]:,.2g} to {hours[1]:,.2g} worker hours × what one costs an hour")
    return "\n".join(lines)


def _spread(pace: Pace, rows: int, workers: int, missing: Sequence[Shard]) -> tuple[float, float]:
    """Seconds of so many workers; the slowest ends up to a shard later than the others."""
    low, high = pace.seconds(rows)
    last = high / len(missing) if workers > 1 else 0.0
    return pace.starting + low / workers, pace.starting + high / workers / (EFFICIENCY if workers > 1 else 1) + last


def measured(compressor: Any, prompts: Sequence[Prompt]) -> list[tuple[int, float]]:
    """Rows and seconds of groups that grow until one takes a while. The first row, which loads things, is left out."""
    deadline, size, groups = time.perf_counter() + SECONDS, 1, list[tuple[int, float]]()
    rest = iter(prompts)
    if len(prompts) > 1:
        list(compressor.stream(islice(rest, 1)))
    while group := list(islice(rest, size)):
        began = time.perf_counter()
        list(compressor.stream(group))
        ended = time.perf_counter()
        groups.append((len(group), ended - began))
        if ended >= deadline:
            break
        size *= 1 + (ended - began < SHORT)
    return groups


def _sampled(plan: Plan, missing: Sequence[Shard], storage: Storage) -> Iterator[Any]:
    """Rows from the beginnings of shards that are spread evenly, one of each shard in turn."""
    chosen = missing[:: max(1, -(-len(missing) // LOOKED_AT))]
    each = -(-SAMPLED_ROWS // len(chosen))
    turns = [list(islice(read_rows(shard, plan.columns, storage), each)) for shard in chosen]
    for turn in range(each):
        yield from (rows[turn] for rows in turns if turn < len(rows))


def _row_count(plan: Plan, missing: Sequence[Shard], storage: Storage) -> int:
    """Rows of the shards; where only reading would tell, by the bytes and rows of the smallest such file."""
    known = sum(shard.rows for shard in missing if shard.rows is not None)
    unknown = sorted((shard for shard in missing if shard.rows is None), key=lambda shard: shard.source.size)
    if not unknown:
        return known
    rows = sum(1 for _ in read_rows(unknown[0], plan.columns, storage))
    return known + round(rows * sum(shard.source.size for shard in unknown) / max(1, unknown[0].source.size))


def _between(low: float, high: float) -> str:
    """Two times in the unit that suits them."""
    unit, size = next(
        (unit, size)
        for unit, size in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3))
        if high >= 2 * size or unit == "ms"
    )
    return f"{low / size:,.3g} to {high / size:,.3g} {unit}"
