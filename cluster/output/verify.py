"""`verify`: audits a finished output against its inputs, row by row, and lists what is wrong.

Every planned shard is read again from its input and walked along with its part and its rejects: each input row must be
the next row of the part (its own columns equal, its fingerprint that of its content under the planned settings and
model) or the next reject, and nothing may be left over. Parts and rejects must have the checksums of their commit
record, the record the counts of what is there, and no part may be there that was not planned. Of Parquet, the first
rows of a shard are read once more by other means than the job's own reader (`audit.Plainly`). What is not audited is
whether the compressed text is what the model would give: that would be the run again. It is looked at whether it is
what is left of the original, and tokens are counted again on a sample where that needs nothing from elsewhere
(`audit.Results`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from math import isclose
from typing import Any, get_args

from cluster.errors import AbortRun, ClusterError, DamagedFile, SourceUnusable
from cluster.input.parquet import open_parquet
from cluster.input.reader import read_rows
from cluster.input.shards import BadRow, Row, Shard, Source, require_unchanged
from cluster.output.audit import OutputRow, Plainly, Results, read_part, same_columns
from cluster.output.ledger import PART, Ledger
from cluster.output.plan import Plan
from cluster.output.records import Record, Statistics, counted, read_rejects
from cluster.storage.listing import EVERYTHING
from cluster.storage.storage import Storage
from lingua.errors import PromptError
from lingua.prompt import Status

MAX_PER_SHARD = 5
AT_ONCE = 4
"""Shards that are looked at together, each in the memory of a worker that reads it twice."""
COUNTED_ROWS = 4
"""First rows of a shard whose tokens are counted again in any case; of the others it is one in 256."""
_SUMS = ("origin_tokens", "compressed_tokens", "fidelity")
_NO_PART = (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError, SourceUnusable)
"""What reading a file that is no part raises; pyarrow's exceptions are among these."""


@dataclass(slots=True)
class Audit:
    """What was found: problems in words, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    shards: int = 0
    rows: int = 0
    rejected: int = 0
    recounted: int = 0  # rows whose tokens were counted again
    uncounted: str | None = None  # why none could be, in words

    def add(self, other: Audit) -> None:
        self.problems += other.problems
        self.shards += other.shards
        self.rows += other.rows
        self.rejected += other.rejected
        self.recounted += other.recounted

    def summary(self) -> str:
        seen = f"{counted(self.rows, 'input row')} in {counted(self.shards, 'shard')}, {self.rejected} of them rejected"
        if self.problems:
            return f"{counted(len(self.problems), 'problem')}: {seen}"
        return f"whole: {seen}, each exactly once"

    @property
    def tokens(self) -> str:
        """One line on what was looked at of the tokens."""
        if self.uncounted is not None:
            return f"tokens were not counted again: {self.uncounted}"
        return f"tokens were counted again in {counted(self.recounted, 'row')}"


def verify(output: str, storage_options: Mapping[str, Any] | None = None) -> Audit:
    """Audit an output. PlanConflict when there is no plan to audit it by."""
    ledger = Ledger(output, storage_options)
    plan = ledger.require_plan()
    audit = Audit([*_strays(ledger, plan), *_uncovered(plan, ledger.storage)])
    found = _Output(ledger, plan, audit.problems)
    audit.problems += _figures(ledger, plan, list(found.records.values()))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for one in list(threads.map(lambda shard: _ShardAudit(found, shard).run(), plan.shards)):
            audit.add(one)
    audit.uncounted = found.results.uncounted if audit.rows > audit.rejected else None
    return audit


def _strays(ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Whatever lies below the output and readers of the folder, who pass over hidden names, would take for a part."""
    planned = {plan.part_name(shard) for shard in plan.shards}
    for name in sorted(ledger.storage.search(ledger.url, EVERYTHING).files.keys() - planned):
        kind = "part" if PART.fullmatch(name.rpartition("/")[2]) else "file"
        yield f"{name}: a {kind} that is not in the plan"


def _uncovered(plan: Plan, storage: Storage) -> Iterator[str]:
    """Sources that the shards of the plan do not cover from end to end, each stretch once."""
    found: dict[Source, list[Shard]] = {source: [] for source in plan.sources}
    for shard in plan.shards:
        found[shard.source] += [] if shard.retries else [shard]
    for source, shards in found.items():
        at = row = 0
        for shard in shards:
            if shard.start != at or shard.first_row != row:
                yield f"_plan.json: {shard.name} begins at {shard.start} of {source.path}, the one before ends at {at}"
            at, row = shard.end, shard.first_row + (shard.rows or 0)
        end = source.size
        if source.format == "parquet":
            try:
                with open_parquet(source, storage) as file:
                    end = int(file.metadata.num_rows)
            except (ClusterError, FileNotFoundError):
                continue  # that it changed is told elsewhere
        if at != end:
            yield f"_plan.json: its shards cover {source.path} up to {at}, not to its end, {end}: rows are missing"


def _figures(ledger: Ledger, plan: Plan, records: Sequence[Record]) -> Iterator[str]:
    """What `_stats.json` says of a complete output otherwise than its commit records."""
    try:
        stored = ledger.statistics()
    except DamagedFile as error:
        yield str(error)
        return
    told = Statistics.over(records).as_json()
    if not stored.get("complete") or len(records) < len(plan.shards):
        return
    for name in ("shards", "rows", "statuses", "rejects", "origin_tokens", "compressed_tokens"):
        said = stored.get(name, told[name])
        if isinstance(said, Mapping):  # an earlier version knew fewer statuses
            said = {**told[name], **said}
        if said != told[name]:
            yield f"_stats.json says {name} = {stored[name]}, the commit records {told[name]}; start the job again"


class _Output:
    """What all shards of an output are looked at with. Threads share it.

    changed   inputs that are not those of the plan
    records   of the committed shards by name
    damaged   what is wrong with the records of others, by name
    What changed or is damaged is told among the `problems` that it is given.
    """

    def __init__(self, ledger: Ledger, plan: Plan, problems: list[str]) -> None:
        self.ledger, self.plan, self.retried = ledger, plan, plan.retried
        self.results, self.plainly = Results(plan), Plainly(ledger.storage)
        self.changed = set[Source]()
        for source in plan.sources:
            try:
                require_unchanged(source, ledger.storage)
            except AbortRun as error:
                problems.append(str(error))
                self.changed.add(source)
        self.damaged = dict[str, str]()
        self.records = {record.shard.name: record for record in ledger.records(self.damaged)}
        problems += self.damaged.values()


class _UnreadableError(Exception):
    """A part or its rejects are no readable file."""


class _ShardAudit:
    """One shard: its record, then its input rows, part rows and rejects, side by side in order."""

    def __init__(self, output: _Output, shard: Shard) -> None:
        self._output, self._ledger, self._plan, self._shard = output, output.ledger, output.plan, shard
        self._url = output.ledger.part_url(output.plan, shard)
        self._seen = Counter[str](dict.fromkeys(("rows", "rejected", *_SUMS, *get_args(Status)), 0))
        self._reasons = Counter[str]()
        self._recounted = 0

    def run(self) -> Audit:
        """All that is wrong with its files, and what was looked at."""
        found = islice(self._problems(), MAX_PER_SHARD)
        problems = [f"{self._plan.part_name(self._shard)}: {problem}" for problem in found]
        # rows that are tried again are counted where they were read first, and as rejected where they were tried last
        rows = 0 if self._shard.retries else self._seen["rows"]
        rejected = 0 if self._shard.name in self._output.retried else self._seen["rejected"]
        return Audit(problems, 1, rows, rejected, self._recounted)

    def _problems(self) -> Iterator[str]:
        record = self._output.records.get(self._shard.name)
        if not self._ledger.is_committed(self._shard.name):
            yield "missing: the shard is not committed; run the job again"
        elif record is None:
            if self._shard.name not in self._output.damaged:
                yield "no commit record has its checksum; start the job again, and delete the part if none has it then"
        elif found := list(self._record_problems(record)):
            yield from found
        elif self._shard.source not in self._output.changed:
            try:
                yield from self._walk(record)
                yield from self._figures(record)
                alike = self._shard.source.format == self._plan.output_format == "parquet"
                if alike and not (record.rejected or self._shard.retries):
                    yield from (f"row {fault}" for fault in self._output.plainly.altered(self._shard, self._url))
            except _UnreadableError as error:
                yield str(error)

    def _record_problems(self, record: Record) -> Iterator[str]:
        if record.shard != self._shard:
            yield "its commit record is of another shard or input"
        if record.identity != self._plan.identity.digest():
            yield "its commit record is of other settings or another model"
        if self._ledger.checksum(self._url) != record.part_sha256:
            yield "differs from its commit record (size or checksum): damaged, swapped or written by another hand"
        if not self._ledger.lists_rejects(record):
            remedy = "delete it, and the next start makes both"
            if self._shard.name in self._plan.retried:  # made again it may reject others, and the same row come twice
                remedy = "put them back, or begin another output with --reuse of this one"
            yield f"its rejects are missing or differ from their checksum; {remedy}"

    def _walk(self, record: Record) -> Iterator[str]:
        """What is wrong with single rows. _UnreadableError where a file is none that the job writes."""
        outputs, rejects = self._part(), self._rejects(record)
        reject, wanted = next(rejects, None), self._wanted()
        for item in read_rows(self._shard, self._plan.columns, self._ledger.storage):
            if wanted is not None and item.number not in wanted:
                continue
            self._seen["rows"] += 1
            if reject is not None and reject.number == item.number:
                yield from self._compare_reject(item, reject)
                reject = next(rejects, None)
            elif isinstance(item, BadRow):
                yield f"row {item.number} cannot be read ({item.reason}) and is not among the rejects"
            elif (output := next(outputs, None)) is None:
                yield f"row {item.number} is neither in the part nor among the rejects"
            else:
                yield from self._compare(item, output)
        if (more := sum(1 for _ in outputs)) > 0:
            yield f"{more} rows more than its input has"
        if reject is not None:
            yield f"the reject of row {reject.number} is not of this shard, or stands twice"

    def _figures(self, record: Record) -> Iterator[str]:
        """What the commit record counts otherwise."""
        for name, count in self._seen.items():
            if not isclose(said := getattr(record, name, 0), count, rel_tol=1e-9):
                yield f"its commit record says {name} = {said}, there are {count}"
        if record.rejects != self._reasons:
            yield f"its commit record says rejects = {dict(record.rejects)}, there are {dict(self._reasons)}"

    def _compare_reject(self, item: Row | BadRow, reject: BadRow) -> Iterator[str]:
        self._seen["rejected"] += 1
        self._reasons[reject.reason] += 1
        known = item if isinstance(item, BadRow) else item.rejected(reject.reason, reject.detail)
        if reject.source != self._shard.source.path:
            yield f"the reject of row {item.number} is of another file, {reject.source}"
        elif reject.raw != known.raw or reject.reason != known.reason:
            yield f"the reject of row {item.number} is not of what the input holds there ({reject.reason})"

    def _compare(self, row: Row, output: OutputRow) -> Iterator[str]:
        results = output.results
        self._seen.update({results["status"]: 1, **{name: results[name] or 0 for name in _SUMS}})
        if not same_columns(row, output):
            yield f"row {row.number}: its columns differ from the input's: another row, or changed"
            return
        try:
            fingerprint = self._plan.fingerprint(row.values)
        except PromptError as error:
            yield f"row {row.number} has nothing to compress ({error}) and should be among the rejects"
            return
        if results["fingerprint"] != fingerprint:
            yield f"row {row.number}: its fingerprint is not that of its content, settings and model"
        faults = list(self._output.results.faults(row, results))
        if not faults and (self._seen["rows"] <= COUNTED_ROWS or results["fingerprint"].startswith("00")):
            miscounted = self._output.results.miscounted(row, results)
            self._recounted += miscounted is not None
            faults += [miscounted] if miscounted else []
        yield from (f"row {row.number}: {fault}" for fault in faults)

    def _wanted(self) -> set[int] | None:
        """Numbers of the rows that it tries again; None: it has all rows of its range."""
        if self._shard.retries is None:
            return None
        wanted = {reject.number for reject in self._listed(self._ledger.retried_url(self._shard.retries))}
        before = self._output.records.get(self._shard.retried or "")
        if before and wanted != {reject.number for reject in self._rejects(before)}:
            raise _UnreadableError(f"tries other rows again than those that {before.shard.name} rejects")
        return wanted

    def _part(self) -> Iterator[OutputRow]:
        try:
            yield from read_part(self._plan, self._url, self._ledger.storage)
        except _NO_PART as error:
            raise _UnreadableError(f"cannot be read: {type(error).__name__}: {error}") from None

    def _rejects(self, record: Record) -> Iterator[BadRow]:
        return self._listed(self._ledger.rejects_url(record)) if record.rejects_sha256 else iter(())

    def _listed(self, url: str) -> Iterator[BadRow]:
        try:
            yield from read_rejects(url, self._ledger.storage)
        except (ValueError, FileNotFoundError) as error:
            why = "are gone" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise _UnreadableError(f"its rejects ({url}) {why}") from None
