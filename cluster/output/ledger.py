"""`Ledger`: what is planned and what is done, as files beside the output that a person can read.

    part-….parquet             the output: a part is there whole or not at all, and its being there *is* the commit
    _plan.json                 settings, model, inputs, columns, shards
    _plans/<generation>.json   the same with what was added since: the highest counts, and each extends the one before
    _records/<shard>.<t>.json  what a commit holds: input, counts, checksums
    _rejects/<shard>.<t>.jsonl rejected rows, if there were any
    _retried/<shard>.<t>.jsonl those of them that other shards try again
    _sketches/<shard>.<t>.json what the report shows of a shard, a few rows among it; only the report reads it
    _lease-<n>.json            who works on it now
    _stats.json                the sums, at the end

A commit puts the rejects, then the record, then the part under its final name if that is absent, which one of any
number of racing attempts achieves. <t> is a digest of what the attempt wrote, so that attempts with different results
never mix: the record that counts is the one whose checksum is the part's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cluster.errors import AbortRun, DamagedFile, PlanConflict
from cluster.input.shards import ATTEMPT, NAME, UNKNOWN_VERSION, Shard, parsed, version_of
from cluster.output.folder import RunFolder
from cluster.output.plan import REMEDY, Plan
from cluster.output.records import Part, Record, Statistics, StoredStatistics
from cluster.output.summary import ShardSummary
from cluster.storage.listing import PLAN
from cluster.storage.local import Scratch
from cluster.storage.storage import Entry, below

PART = re.compile(rf"({NAME.pattern})\.(parquet|jsonl)")
SIDE_FILE = re.compile(rf"{ATTEMPT.pattern}\.jsonl?")
GENERATION = re.compile(r"\d{6,}\.json")
SUMMARIES = "_sketches"  # of shards; earlier outputs have them under this name
SIDE_FOLDERS = {"_records": "json", "_rejects": "jsonl", SUMMARIES: "json"}
"""Folders of what a commit puts beside its part, and how the names in each end."""
AT_ONCE = 16


class Ledger(RunFolder):
    """The ledger of one output: the run folder of a compression."""

    def __init__(self, output: str, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(output, "jobs.compress", storage_options)
        self._plan_url = below(self.url, PLAN)
        self._known_version: str | None = None  # of `_plan.json`, once it was found to be the plan of this process

    # ---- the plan

    def plan(self) -> Plan | None:
        """The stored plan in its last generation, if there is one."""
        try:
            first = Plan.from_bytes(self.storage.read(self._plan_url), self._plan_url)
        except FileNotFoundError:
            return None
        if (url := next(self._generations(), None)) is None:
            return first
        last = Plan.from_bytes(self.storage.read(url), url)
        if last.run != first.run:
            raise PlanConflict(f"{url} extends another plan than {self._plan_url}; delete it, or {REMEDY}")
        return last

    def require_plan(self) -> Plan:
        """The same. PlanConflict when there is none."""
        if (plan := self.plan()) is None:
            raise PlanConflict(f"{self.url} has no {PLAN}; check the path: no output of this job, or its plan is gone")
        return plan

    def _generations(self) -> Iterator[str]:
        """Where the plan is stored that was extended, the last first."""
        names = sorted((match[0] for match, _ in self._found("_plans", GENERATION)), key=lambda name: (len(name), name))
        return (below(self.url, "_plans", name) for name in reversed(names))

    def open_or_create(self, plan: Plan) -> Plan:
        """Store the plan of a new output or its next generation, or find that it is there. PlanConflict otherwise.

        Either is created if absent, so that of many that extend a plan one does, and the others go on with its plan.
        Another plan, or a damaged one, is replaced where no part is committed yet: only for the holder of the lease.
        """
        try:
            stored = self._create_or_find(plan)
            stored.require_same(plan.identity, plan.sources, self.url)
            return stored
        except PlanConflict:
            if plan.history or self.begun() or not self.exists(PLAN):
                raise
        for url in self._generations():  # the last first: what is left is a plan at any moment
            self.storage.delete(url)
        self.write(PLAN, plan.to_bytes())
        return plan

    def _create_or_find(self, plan: Plan) -> Plan:
        """The plan, where it could be stored, else the one that is there. PlanConflict where it can be neither."""
        stored = self.plan()
        if stored is None and not plan.history:
            self.require_unused()
            url = self._plan_url
        elif stored is not None and plan.extends(stored):
            url = below(self.url, "_plans", f"{plan.generation:06d}.json")
        else:
            return stored or self.require_plan()
        return plan if self.storage.create(url, plan.to_bytes()) else self.require_plan()

    def begun(self) -> bool:
        """Whether any part is there, with its record or without."""
        return any(self._found("", PART))

    # ---- commits

    def committed(self) -> set[str]:
        """Names of the shards whose parts are there with a record: two listings.

        A part that lost its record counts as missing; its shard is compressed again, which puts the same record back.
        """
        recorded = {match[1] for match, _ in self._found("_records", SIDE_FILE)}
        return {match[1] for match, _ in self._found("", PART)} & recorded

    def is_committed(self, shard: str) -> bool:
        """Whether the part of the shard of that name is there."""
        return any(self.storage.exists(url) for url in self._part_urls(shard))

    def commit(self, plan: Plan, shard: Shard, part: Part, seconds: float) -> Literal["committed", "already"]:
        """Publish a part, all or nothing. ``already``: another attempt's part was there before."""
        self._require_current(plan)
        record = Record.of(shard, part, plan.identity.digest(), seconds)
        beside = {folder: self._side_url(folder, record) for folder in SIDE_FOLDERS}
        if part.rejects is not None:
            self._put_rejects(beside["_rejects"], part.rejects.path)
        if part.summary is not None:
            self.storage.write(beside[SUMMARIES], part.summary.to_bytes())
        self.storage.write(beside["_records"], record.to_bytes())
        if self.storage.create(self.part_url(plan, shard), part.data.path):
            return "committed"
        for url in beside.values():
            self.storage.delete(url)
        return "already"

    def _put_rejects(self, url: str, path: Path) -> None:
        """Stream the rejects to their file; its name tells its content, so another one there is damaged."""
        if not self.storage.create(url, path):
            self.storage.delete(url)
            self.storage.create(url, path)

    def _require_current(self, plan: Plan) -> None:
        """AbortRun unless the stored plan is the one that a worker was given; it is read again where it was written."""
        info = self.require_plan_file()
        if (version := f"{info['size']} {version_of(info)}") == self._known_version:
            return
        if (stored := self.require_plan()).run != plan.run:
            raise AbortRun(
                f"{self._plan_url} is another plan now: the output was begun anew with other settings or "
                f"inputs while this worker stood still (planned {plan.about.get('created')}, now "
                f"{stored.about.get('created')})"
            )
        self._known_version = None if UNKNOWN_VERSION in version else version

    def require_plan_file(self) -> dict[str, Any]:
        """What the store says of the plan's file.

        AbortRun when that is gone, and with it probably the output: nothing may be written there then.
        """
        try:
            return self.storage.info(self._plan_url)
        except FileNotFoundError:
            gone = "is gone: the output was deleted while the run went on; start again"
            raise AbortRun(f"{self._plan_url} {gone}") from None

    def records(self, damaged: dict[str, str] | None = None) -> list[Record]:
        """The record of every committed shard that has one, in the order of the shards.

        DamagedFile for a part all of whose records are damaged; with `damaged` it is told there, by the shard's name.
        """
        committed = self.committed()
        files: dict[str, list[str]] = defaultdict(list)
        for match, _ in self._found("_records", SIDE_FILE):
            if match[1] in committed:
                files[match[1]].append(match[0])
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(lambda name: self._record(name, files[name]), sorted(files)))
        for name, (record, faults) in zip(sorted(files), found, strict=True):
            if record is None and faults:
                if damaged is None:
                    raise DamagedFile(faults[0])
                damaged[name] = faults[0]
        return [record for record, _ in found if record is not None]

    def recorded(self, retried: Collection[str]) -> Statistics:
        """The sums over all commits, less the rejected rows of shards that are `retried` and were not yet.

        DamagedFile where a part has not the size of its commit, or was committed for a plan that was replaced: a
        listing and the plan tell; the bytes of parts are for `jobs.verify`.
        """
        records, parts = self.records(), {match[1]: entry for match, entry in self._found("", PART)}
        identity = self.require_plan().identity.digest() if records else ""
        wrong = [
            (entry, fault)
            for record in records
            if (entry := parts.get(record.shard.name)) and (fault := record.fault(entry.size, identity))
        ]
        if wrong:
            more = f"; {len(wrong) - 1:,} more parts are wrong" if len(wrong) > 1 else ""
            raise DamagedFile(
                f"{self.url}/{wrong[0][0].name} {wrong[0][1]}{more}; delete what python -m jobs.verify names, and the "
                "same command makes it again"
            )
        return Statistics.over(records, retried)

    def _record(self, name: str, files: Iterable[str]) -> tuple[Record | None, list[str]]:
        """Which of these records of a shard is that of its part, and what is wrong with the others."""
        faults: list[str] = []
        records = [record for file in sorted(files) if (record := self._read_record(file, faults)) is not None]
        if len(records) + len(faults) > 1:
            checksum = self._part_checksum(name)
            records = [record for record in records if record.part_sha256 == checksum]
        return (records[0] if records else None), faults

    def _part_checksum(self, name: str) -> str | None:
        there = [url for url in self._part_urls(name) if self.storage.exists(url)]
        return self.checksum(there[0]) if there else None

    def _read_record(self, file: str, faults: list[str]) -> Record | None:
        url = below(self.url, "_records", file)
        try:
            record = Record.from_bytes(self.storage.read(url))
            if file != f"{record.attempt}.json":
                raise ValueError(f"it is the record of {record.attempt}")
        except FileNotFoundError:
            return None
        except ValueError as error:
            part = f"{self.url}/{file.partition('.')[0]}.*"
            faults.append(f"{url} is damaged: {error}; delete it and {part}, and the next start makes both again")
            return None
        return record

    def checksum(self, url: str) -> str:
        """SHA-256 of a file, in hex."""
        digest = hashlib.sha256()
        for block in self.storage.blocks(url):
            digest.update(block)
        return digest.hexdigest()

    # ---- the rest

    def write_stats(self, statistics: Mapping[str, Any]) -> None:
        self.write("_stats.json", json.dumps(dict(statistics), indent=1).encode())

    def clean(self) -> None:
        """Remove what dead or beaten attempts left: temporary files, and side files that no commit refers to.

        Only for the holder of the lease. Of a committed shard the files of the attempt that counts stay; of shards that
        are not committed all do: an attempt may be at work.
        """
        self.remove_temporary("", *SIDE_FOLDERS, "_plans", "_retried")
        found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for folder in SIDE_FOLDERS:
            for match, _ in self._found(folder, SIDE_FILE):
                found[match[1]][f"{match[1]}.{match[2]}"].append(f"{folder}/{match[0]}")
        disputed = {name: attempts for name, attempts in found.items() if len(attempts) > 1}
        for name in disputed.keys() & self.committed():
            attempts = disputed[name]
            record, _ = self._record(name, [f"{attempt}.json" for attempt in attempts])
            if record is not None and record.part_sha256 == self._part_checksum(name):
                for file in (file for attempt, own in attempts.items() if attempt != record.attempt for file in own):
                    self.delete(file)

    def part_url(self, plan: Plan, shard: Shard) -> str:
        return below(self.url, plan.part_name(shard))

    def rejects_url(self, record: Record) -> str:
        """Where a commit's rejected rows are, if it has any: once they are tried again, in `_retried/`."""
        own, moved = self._side_url("_rejects", record), self.retried_url(record.attempt)
        return own if self.storage.exists(own) or not self.storage.exists(moved) else moved

    def lists_rejects(self, record: Record) -> bool:
        """Whether a commit's rejected rows, if it has any, are listed as they were: neither gone nor changed."""
        url = self.rejects_url(record) if record.rejects_sha256 else ""
        return not url or (self.storage.exists(url) and self.checksum(url) == record.rejects_sha256)

    def retried_url(self, attempt: str) -> str:
        """Where the rows are that an attempt rejected, once they are tried again."""
        return below(self.url, "_retried", f"{attempt}.jsonl")

    def retried(self) -> dict[str, str]:
        """Names of shards whose rejected rows are tried again → where these are listed."""
        return {match[1]: below(self.url, "_retried", match[0]) for match, _ in self._found("_retried", SIDE_FILE)}

    def set_aside(self, shards: Collection[str]) -> None:
        """Move the rejects of these shards to `_retried/`; a kill may leave some in both. For the lease's holder."""
        for match, _ in self._found("_rejects", SIDE_FILE) if shards else ():
            if match[1] in shards:
                name = f"_rejects/{match[0]}"
                with closing(Scratch()) as scratch, (scratch.path / "rejects").open("wb") as file:
                    file.writelines(self.storage.blocks(below(self.url, name)))
                    file.flush()
                    self._put_rejects(below(self.url, "_retried", match[0]), Path(file.name))
                self.delete(name)

    def write_report(self, page: str) -> str:
        """Put `_report.html`; where it is."""
        self.write("_report.html", page.encode(errors="replace"))
        return below(self.url, "_report.html")

    def statistics(self) -> dict[str, Any]:
        """The content of `_stats.json`; empty while the first run goes on. DamagedFile when it is none."""
        url = below(self.url, "_stats.json")
        try:
            data = self.storage.read(url)
            parsed(StoredStatistics, data, "statistics")
            return dict(json.loads(data))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DamagedFile(f"{url} is damaged: {error}; delete it, and the same job writes it again") from None

    def summaries(self, records: Iterable[Record]) -> Iterator[tuple[Record, ShardSummary]]:
        """What the report shows of these commits, of each that it was gathered for; a few in memory at a time."""
        rest = iter(records)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while some := list(islice(rest, 8 * AT_ONCE)):
                for record, summary in zip(some, threads.map(self.summary, some), strict=True):
                    if summary is not None:
                        yield record, summary

    def summary(self, record: Record) -> ShardSummary | None:
        """What the report shows of a commit, if it was gathered. DamagedFile when it is not what was."""
        url = self._side_url(SUMMARIES, record)
        try:
            return ShardSummary.from_bytes(self.storage.read(url))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamagedFile(f"{url} is damaged: {error}; delete it: the report can do without") from None

    def _side_url(self, folder: str, record: Record) -> str:
        return below(self.url, folder, f"{record.attempt}.{SIDE_FOLDERS[folder]}")

    def _part_urls(self, name: str) -> Iterator[str]:
        return (below(self.url, f"{name}.{ending}") for ending in ("parquet", "jsonl"))

    def _found(self, folder: str, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Entry]]:
        """The files in a folder of the output (empty: itself) whose names are of a kind, listed afresh."""
        for entry in self.storage.entries(below(self.url, folder)):
            if match := pattern.fullmatch(entry.name):
                yield match, entry
