"""`verify`: audits a finished output against its inputs, row by row, and lists what is wrong.

Every planned shard is read again from its input and walked along with its part and its rejects: each input row must be
the next row of the part (its own columns equal, its fingerprint that of its content under the planned settings and
model) or the next reject, and nothing may be left over. Parts and rejects must have the checksums of their commit
record, the record the counts of what is there, and no part may be there that was not planned. What is not audited is
whether the compressed text is what the model would give: that would be the run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isclose
from typing import Any, get_args

from cluster.columns import RESULTS
from cluster.corpus import read_rows
from cluster.decode import OutputRow, read_part
from cluster.encode import as_document, printed, record_of
from cluster.errors import AbortRun, RowError
from cluster.inputs import require_unchanged
from cluster.ledger import PART, Ledger
from cluster.plan import Plan
from cluster.progress import counted
from cluster.records import Record
from cluster.rows import BadRow, Row
from cluster.schema import json_text
from cluster.shards import Shard, Source
from lingua.prompt import Status

MAX_PER_SHARD = 5
_NO_RECORD = "no commit record has its checksum: it was not committed by this job, or changed since"


@dataclass(slots=True)
class Audit:
    """What was found: problems in words, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    shards: int = 0
    rows: int = 0
    rejected: int = 0

    def summary(self) -> str:
        """One line for people."""
        seen = f"{counted(self.rows, 'input row')} in {counted(self.shards, 'shard')}, {self.rejected} of them rejected"
        return (
            f"{counted(len(self.problems), 'problem')}: {seen}"
            if self.problems
            else f"whole: {seen}, each exactly once"
        )


def verify(output: str, storage_options: Mapping[str, Any] | None = None) -> Audit:
    """Audit an output. AbortRun when there is no plan to audit it by."""
    ledger = Ledger(output, storage_options)
    plan = ledger.plan()
    if plan is None:
        raise AbortRun(f"{ledger.output} has no _plan.json: not an output of this job")
    audit = Audit()
    audit.problems += _strays(ledger, plan)
    changed = {source for source in plan.sources if _changed(source, ledger, audit)}
    records = {record.shard.name: record for record in ledger.records(audit.problems)}
    for shard in plan.shards:
        audit.shards += 1
        found = _Shard(ledger, plan, shard, records.get(shard.name)).problems(audit, shard.source in changed)
        audit.problems += [f"{plan.part_name(shard)}: {problem}" for problem in found]
    return audit


def _strays(ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Whatever lies at the root and readers of the folder would take for a part."""
    planned = {plan.part_name(shard) for shard in plan.shards}
    for entry in ledger.storage.entries(ledger.output):
        if entry.name not in planned and not entry.name.startswith(("_", ".")):
            kind = "part" if PART.fullmatch(entry.name) else "file"
            yield f"{entry.name}: a {kind} that is not in the plan"


def _changed(source: Source, ledger: Ledger, audit: Audit) -> bool:
    try:
        require_unchanged(source, ledger.storage)
    except AbortRun as error:
        audit.problems.append(str(error))
        return True
    return False


class _Shard:
    """The audit of one shard."""

    def __init__(self, ledger: Ledger, plan: Plan, shard: Shard, record: Record | None) -> None:
        self.ledger, self.plan, self.shard, self.record = ledger, plan, shard, record

    def problems(self, audit: Audit, input_changed: bool) -> list[str]:
        """All that is wrong with the part, its rejects and its record."""
        if not self.ledger.is_committed(self.shard.name):
            return ["missing: the shard is not committed; run the job again"]
        if self.record is None:
            damaged = any(f"/{self.shard.name}." in problem for problem in audit.problems)  # told already
            return [] if damaged else [_NO_RECORD]
        found = [*self._record_problems(self.record), *self._bytes_problems(self.record)]
        if found or input_changed:
            return found
        return list(islice(self._rows_problems(audit, self.record), MAX_PER_SHARD))

    def _record_problems(self, record: Record) -> Iterator[str]:
        if record.shard != self.shard:
            yield "its commit record is of another shard or input"
        if record.identity != self.plan.identity.digest():
            yield "its commit record is of other settings or another model"

    def _bytes_problems(self, record: Record) -> Iterator[str]:
        if self.ledger.checksum(self.ledger.part_url(self.plan, self.shard)) != record.part_sha256:
            yield "differs from its commit record (size or checksum): damaged, swapped or written by another hand"
        if record.rejects_sha256 is not None and self._rejects_checksum(record) != record.rejects_sha256:
            yield "its rejects are missing or differ from their checksum"

    def _rejects_checksum(self, record: Record) -> str | None:
        try:
            return self.ledger.checksum(self.ledger.rejects_url(record))
        except FileNotFoundError:
            return None

    def _rows_problems(self, audit: Audit, record: Record) -> Iterator[str]:
        walk = _Walk(self.plan, self._outputs(), self._rejects(record))
        try:
            for item in read_rows(self.shard, self.plan.columns, self.ledger.storage):
                yield from walk.step(item)
            yield from walk.rest()
        except _UnreadableError as error:
            yield str(error)
            return
        audit.rows += walk.rows
        audit.rejected += walk.rejected
        yield from walk.against(record)

    def _outputs(self) -> Iterator[OutputRow]:
        try:
            yield from read_part(self.plan, self.ledger.part_url(self.plan, self.shard), self.ledger.storage)
        except (ValueError, OSError, KeyError) as error:  # pyarrow's exceptions are among these
            raise _UnreadableError(f"cannot be read: {type(error).__name__}: {error}") from None

    def _rejects(self, record: Record) -> Iterator[dict[str, Any]]:
        if record.rejects_sha256 is None:
            return
        try:
            for line in self.ledger.storage.read(self.ledger.rejects_url(record)).splitlines():
                yield json.loads(line)
        except ValueError as error:
            raise _UnreadableError(f"its rejects cannot be read: {error}") from None


class _UnreadableError(Exception):
    """A part or its rejects are no readable file."""


class _Walk:
    """Input rows, part rows and rejects, side by side in order."""

    def __init__(self, plan: Plan, outputs: Iterator[OutputRow], rejects: Iterator[dict[str, Any]]) -> None:
        self._plan, self._outputs, self._rejects = plan, outputs, rejects
        self._reject = next(rejects, None)
        self.rows = self.rejected = 0
        self._sums: dict[str, float] = {"origin_tokens": 0, "compressed_tokens": 0, "fidelity": 0.0}
        self._statuses: dict[str, int] = dict.fromkeys(get_args(Status), 0)

    def step(self, item: Row | BadRow) -> Iterator[str]:
        """Match the next input row."""
        self.rows += 1
        if self._reject is not None and self._reject.get("row") == item.number:
            self.rejected += 1
            self._reject = next(self._rejects, None)
            return
        if isinstance(item, BadRow):
            yield f"row {item.number} cannot be read ({item.reason}) and is not among the rejects"
            return
        output = next(self._outputs, None)
        if output is None:
            yield f"row {item.number} is neither in the part nor among the rejects"
            return
        self._count(output.results)
        yield from self._compare(item, output)

    def rest(self) -> Iterator[str]:
        """What is left over when the input has ended."""
        if (more := sum(1 for _ in self._outputs)) > 0:
            yield f"{more} rows more than its input has"
        if self._reject is not None:
            yield f"the reject of row {self._reject.get('row')} is not of this shard, or stands twice"

    def against(self, record: Record) -> Iterator[str]:
        """What the commit record counts otherwise."""
        seen = {"rows": self.rows, "rejected": self.rejected, **self._statuses, **self._sums}
        for name, count in seen.items():
            if not isclose(getattr(record, name, -1), count, rel_tol=1e-9):
                yield f"its commit record says {name} = {getattr(record, name)}, there are {count}"

    def _count(self, results: Mapping[str, Any]) -> None:
        for name in self._sums:
            self._sums[name] += results[name] or 0
        self._statuses[results["status"]] = self._statuses.get(results["status"], 0) + 1

    def _compare(self, row: Row, output: OutputRow) -> Iterator[str]:
        if not same_columns(row, output):
            yield f"row {row.number}: its columns differ from the input's: another row, or changed"
            return
        try:
            fingerprint = self._plan.identity.fingerprint(self._plan.columns.content(row.values))
        except RowError as error:
            yield f"row {row.number} has nothing to compress ({error}) and should be among the rejects"
            return
        if output.results["fingerprint"] != fingerprint:
            yield f"row {row.number}: its fingerprint is not that of its content, settings and model"
        yield from (f"row {row.number}: {fault}" for fault in _implausible(output.results))


def same_columns(row: Row, output: OutputRow) -> bool:
    """Whether the input columns came through unchanged; NaN equals NaN."""
    if isinstance(output.carried, dict):
        return json_text(as_document(row.carried)) == json_text(output.carried)
    found = output.carried.record()
    wanted = record_of(row.carried, found.schema)
    return wanted.equals(found) or json_text(printed(wanted)) == json_text(printed(found))


def _implausible(results: Mapping[str, Any]) -> Iterator[str]:
    optional = ("rate",) if results.get("origin_tokens") == 0 else ()
    missing = [name for name in RESULTS.names if results.get(name) is None and name not in optional]
    if missing:
        yield f"{missing[0]} is missing"
        return
    origin, compressed = results["origin_tokens"], results["compressed_tokens"]
    if origin and abs(results["rate"] - compressed / origin) > 1e-9:
        yield f"rate = {results['rate']}, but {compressed} of {origin} tokens were kept"
    if not 0 <= results["fidelity"] <= 1:
        yield f"fidelity = {results['fidelity']} is no share between 0 and 1"
    if len(results["compressed_context"]) != len(results["kept_context"]):
        yield "compressed_context and kept_context have different lengths"
