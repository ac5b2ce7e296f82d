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
from collections.abc import Collection, Iterator, Mapping, Sequence
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
_NO_RECORD = "no commit record has its checksum: it was not committed by this job, or changed since"


@dataclass(slots=True)
class Audit:
    """What was found: problems in words, and how much was looked at.

    recounted   rows whose tokens were counted again; uncounted: why none could be, in words
    """

    problems: list[str] = field(default_factory=list)
    shards: int = 0
    rows: int = 0
    rejected: int = 0
    recounted: int = 0
    uncounted: str | None = None

    def add(self, other: Audit) -> None:
        self.problems += other.problems
        self.shards += other.shards
        self.rows += other.rows
        self.rejected += other.rejected
        self.recounted += other.recounted

    def summary(self) -> str:
        seen = f"{counted(self.rows, 'input row')} in {counted(self.shards, 'shard')}, {self.rejected} of them rejected"
        return (
            f"{counted(len(self.problems), 'problem')}: {seen}"
            if self.problems
            else f"whole: {seen}, each exactly once"
        )

    @property
    def tokens(self) -> str:
        """One line on what was looked at of the tokens."""
        if self.uncounted is not None:
            return f"tokens were not counted again: {self.uncounted}"
        return f"tokens were counted again in {counted(self.recounted, 'row')}"


def verify(output: str, storage_options: Mapping[str, Any] | None = None) -> Audit:
    """Audit an output. AbortRun when there is no plan to audit it by."""
    ledger = Ledger(output, storage_options)
    plan = ledger.plan()
    if plan is None:
        raise AbortRun(f"{ledger.output} has no _plan.json: not an output of this job")
    audit = Audit()
    audit.problems += [*_strays(ledger, plan), *_uncovered(plan, ledger.storage)]
    changed = set()
    for source in plan.sources:
        try:
            require_unchanged(source, ledger.storage)
        except AbortRun as error:
            audit.problems.append(str(error))
            changed.add(source)
    records = {record.shard.name: record for record in ledger.records(audit.problems)}
    damaged = {shard.name for shard in plan.shards if any(f"/_records/{shard.name}." in one for one in audit.problems)}
    audit.problems += _figures(ledger, plan, list(records.values()))
    look = _Look(ledger, plan, records, damaged)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for one in list(threads.map(lambda shard: look.at(shard, shard.source in changed), plan.shards)):
            audit.add(one)
    audit.uncounted = look.results.uncounted if audit.rows > audit.rejected else None
    return audit


def _strays(ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Whatever lies below the output and readers of the folder would take for a part."""
    planned = {plan.part_name(shard) for shard in plan.shards}
    root = ledger.storage.resolve(ledger.output)[1].rstrip("/") + "/"
    for path in sorted(ledger.storage.search(ledger.output, ("**", "*")).files):
        name = path.removeprefix(root)
        if name not in planned and not any(part.startswith(("_", ".")) for part in name.split("/")):
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


class _Look:
    """Looks at the shards of an output. Threads share it.

    damaged   shards whose records are damaged, which is among the problems already
    """

    def __init__(self, ledger: Ledger, plan: Plan, records: Mapping[str, Record], damaged: Collection[str]) -> None:
        self.ledger, self.plan, self.records, self.damaged = ledger, plan, records, damaged
        self.results, self.plainly, self.retried = Results(plan), Plainly(ledger.storage), plan.retried

    def at(self, shard: Shard, input_changed: bool) -> Audit:
        """All that is wrong with a part, its rejects and its record, and what was looked at."""
        audit = Audit(shards=1)
        found = self._problems(shard, audit, input_changed)
        audit.problems = [f"{self.plan.part_name(shard)}: {problem}" for problem in found]
        audit.rows -= audit.rows if shard.retries else 0  # they are counted where they were read first,
        audit.rejected -= audit.rejected if shard.name in self.retried else 0  # rejected where tried last
        return audit

    def _problems(self, shard: Shard, audit: Audit, input_changed: bool) -> list[str]:
        if not self.ledger.is_committed(shard.name):
            return ["missing: the shard is not committed; run the job again"]
        if (record := self.records.get(shard.name)) is None:
            return [] if shard.name in self.damaged else [_NO_RECORD]
        found = list(self._record_problems(shard, record))
        return (
            found if found or input_changed else list(islice(self._rows_problems(shard, record, audit), MAX_PER_SHARD))
        )

    def _record_problems(self, shard: Shard, record: Record) -> Iterator[str]:
        if record.shard != shard:
            yield "its commit record is of another shard or input"
        if record.identity != self.plan.identity.digest():
            yield "its commit record is of other settings or another model"
        if self.ledger.checksum(self.ledger.part_url(self.plan, shard)) != record.part_sha256:
            yield "differs from its commit record (size or checksum): damaged, swapped or written by another hand"
        try:
            rejects = self.ledger.checksum(self.ledger.rejects_url(record)) if record.rejects_sha256 else None
        except FileNotFoundError:
            rejects = None
        if rejects != record.rejects_sha256:
            yield "its rejects are missing or differ from their checksum"

    def _rows_problems(self, shard: Shard, record: Record, audit: Audit) -> Iterator[str]:
        try:
            walk = _Walk(self.plan, shard.source, self._outputs(shard), self._rejects(record), self.results)
            wanted = self._wanted(shard)
            for item in read_rows(shard, self.plan.columns, self.ledger.storage):
                if wanted is None or item.number in wanted:
                    yield from walk.step(item)
            yield from walk.rest()
        except _UnreadableError as error:
            yield str(error)
            return
        audit.rows += walk.rows
        audit.rejected += walk.rejected
        audit.recounted += walk.recounted
        yield from walk.against(record)
        if not (record.rejected or shard.retries) and shard.source.format == self.plan.output_format == "parquet":
            altered = self.plainly.altered(shard, self.ledger.part_url(self.plan, shard))
            yield from (f"row {fault}" for fault in altered)

    def _outputs(self, shard: Shard) -> Iterator[OutputRow]:
        try:
            yield from read_part(self.plan, self.ledger.part_url(self.plan, shard), self.ledger.storage)
        except _NO_PART as error:
            raise _UnreadableError(f"cannot be read: {type(error).__name__}: {error}") from None

    def _wanted(self, shard: Shard) -> set[int] | None:
        """Numbers of the rows that it tries again; None: it has all rows of its range."""
        if shard.retries is None:
            return None
        wanted = {reject.number for reject in self._listed(self.ledger.retried_url(shard.retries))}
        before = self.records.get(shard.retried or "")
        if before and wanted != {reject.number for reject in self._rejects(before)}:
            raise _UnreadableError(f"tries other rows again than those that {before.shard.name} rejects")
        return wanted

    def _rejects(self, record: Record) -> Iterator[BadRow]:
        return self._listed(self.ledger.rejects_url(record)) if record.rejects_sha256 else iter(())

    def _listed(self, url: str) -> Iterator[BadRow]:
        try:
            yield from read_rejects(url, self.ledger.storage)
        except (ValueError, FileNotFoundError) as error:
            raise _UnreadableError(f"its rejects ({url}) cannot be read: {error}") from None


class _UnreadableError(Exception):
    """A part or its rejects are no readable file."""


class _Walk:
    """Input rows, part rows and rejects, side by side in order."""

    def __init__(
        self, plan: Plan, source: Source, outputs: Iterator[OutputRow], rejects: Iterator[BadRow], results: Results
    ) -> None:
        self._plan, self._source, self._outputs, self._rejects = plan, source, outputs, rejects
        self._results = results
        self._reject = next(rejects, None)
        self._reasons: Counter[str] = Counter()
        self.rows = self.rejected = self.recounted = 0
        self._seen: dict[str, float] = dict.fromkeys((*_SUMS, *get_args(Status)), 0)

    def step(self, item: Row | BadRow) -> Iterator[str]:
        self.rows += 1
        if self._reject is not None and self._reject.number == item.number:
            yield from self._compare_reject(item, self._reject)
            self._reject = next(self._rejects, None)
            return
        if isinstance(item, BadRow):
            yield f"row {item.number} cannot be read ({item.reason}) and is not among the rejects"
            return
        output = next(self._outputs, None)
        if output is None:
            yield f"row {item.number} is neither in the part nor among the rejects"
            return
        for name in _SUMS:
            self._seen[name] += output.results[name] or 0
        self._seen[output.results["status"]] = self._seen.get(output.results["status"], 0) + 1
        yield from self._compare(item, output)

    def rest(self) -> Iterator[str]:
        """What is left over when the input has ended."""
        if (more := sum(1 for _ in self._outputs)) > 0:
            yield f"{more} rows more than its input has"
        if self._reject is not None:
            yield f"the reject of row {self._reject.number} is not of this shard, or stands twice"

    def against(self, record: Record) -> Iterator[str]:
        """What the commit record counts otherwise."""
        for name, count in {"rows": self.rows, "rejected": self.rejected, **self._seen}.items():
            if not isclose(getattr(record, name, -1), count, rel_tol=1e-9):
                yield f"its commit record says {name} = {getattr(record, name)}, there are {count}"
        if dict(record.rejects) != dict(self._reasons):
            yield f"its commit record says rejects = {dict(record.rejects)}, there are {dict(self._reasons)}"

    def _compare_reject(self, item: Row | BadRow, reject: BadRow) -> Iterator[str]:
        self.rejected += 1
        self._reasons[reject.reason] += 1
        known = item if isinstance(item, BadRow) else item.rejected(reject.reason, reject.detail)
        if reject.source != self._source.path:
            yield f"the reject of row {item.number} is of another file, {reject.source}"
        elif reject.raw != known.raw or reject.reason != known.reason:
            yield f"the reject of row {item.number} is not of what the input holds there ({reject.reason})"

    def _compare(self, row: Row, output: OutputRow) -> Iterator[str]:
        if not same_columns(row, output):
            yield f"row {row.number}: its columns differ from the input's: another row, or changed"
            return
        try:
            fingerprint = self._plan.fingerprint(row.values)
        except PromptError as error:
            yield f"row {row.number} has nothing to compress ({error}) and should be among the rejects"
            return
        if output.results["fingerprint"] != fingerprint:
            yield f"row {row.number}: its fingerprint is not that of its content, settings and model"
        faults = list(self._results.faults(row, output.results))
        if not faults and (self.rows <= COUNTED_ROWS or output.results["fingerprint"].startswith("00")):
            miscounted = self._results.miscounted(row, output.results)
            self.recounted += miscounted is not None
            faults += [miscounted] if miscounted else []
        yield from (f"row {row.number}: {fault}" for fault in faults)
