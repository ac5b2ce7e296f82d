"""`Ledger`: what is planned and what is done, as files beside the output that a person can read.

    part-….parquet             the output: a part is there whole or not at all, and its being there *is* the commit
    _plan.json                 settings, model, inputs, columns, shards
    _records/<shard>.<t>.json  what a commit holds: input, counts, checksums
    _rejects/<shard>.<t>.jsonl rejected rows, if there were any
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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from cluster.errors import PlanConflict
from cluster.lease import Lease
from cluster.local import TEMPORARY
from cluster.parts import Part
from cluster.plan import REMEDY, Plan
from cluster.records import Record
from cluster.shards import Shard
from cluster.storage import Entry, Storage, absolute, require_conditional

PART = re.compile(r"(part-\d{5,}-[0-9a-f]{8})\.(parquet|jsonl)")
SIDE_FILE = re.compile(r"(part-\d{5,}-[0-9a-f]{8})\.([0-9a-f]{12})\.jsonl?")
AT_ONCE = 16


class Ledger:
    """The ledger of one output. Any number of processes may use it at once."""

    def __init__(self, output: str, storage_options: Mapping[str, Any] | None = None) -> None:
        require_conditional(output)
        self.output = absolute(output)
        self.storage = Storage(storage_options)

    # ---- the plan

    def plan(self) -> Plan | None:
        """The stored plan, if there is one."""
        try:
            return Plan.from_bytes(self.storage.read(self._url("_plan.json")), self._url("_plan.json"))
        except FileNotFoundError:
            return None

    def open_or_create(self, plan: Plan) -> Plan:
        """Store the plan of a new output, or find that it was begun with the same one. PlanConflict otherwise."""
        if (stored := self.plan()) is None:
            self._require_empty()
            if self.storage.create(self._url("_plan.json"), plan.to_bytes()):
                return plan
            stored = self._planned()
        stored.require_same(plan.identity, plan.sources, self.output)
        return stored

    # ---- commits

    def committed(self) -> set[str]:
        """Names of the shards whose parts are there: one listing."""
        return {match[1] for entry in self.storage.entries(self.output) if (match := PART.fullmatch(entry.name))}

    def is_committed(self, plan: Plan, shard: Shard) -> bool:
        """Whether one shard's part is there."""
        return self.storage.exists(self.part_url(plan, shard))

    def commit(self, plan: Plan, shard: Shard, part: Part, seconds: float) -> Literal["committed", "already"]:
        """Publish a part, all or nothing. ``already``: another attempt's part was there before."""
        record = Record.of(shard, part, plan.identity.digest(), seconds)
        if part.rejects is not None:
            self.storage.write(self.rejects_url(record), part.rejects.path.read_bytes())
        self.storage.write(self._record_url(record), record.to_bytes())
        if self.storage.create(self.part_url(plan, shard), part.data.path):
            return "committed"
        self.storage.delete(self._record_url(record))
        self.storage.delete(self.rejects_url(record))
        return "already"

    def records(self) -> list[Record]:
        """The record of every committed shard that has one, in the order of the shards."""
        candidates = self._candidates()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = threads.map(self._record, sorted(candidates), [candidates[name] for name in sorted(candidates)])
            return [record for record in found if record is not None]

    def _candidates(self) -> dict[str, list[str]]:
        """Names of the record files of each committed shard."""
        committed = self.committed()
        names: dict[str, list[str]] = defaultdict(list)
        for entry in self.storage.entries(self._url("_records")):
            if (match := SIDE_FILE.fullmatch(entry.name)) and match[1] in committed:
                names[match[1]].append(entry.name)
        return names

    def _record(self, name: str, files: list[str]) -> Record | None:
        records = list(filter(None, (self._read_record(file) for file in sorted(files))))
        if len(records) < 2:
            return records[0] if records else None
        checksum = self.checksum(next(url for url in self._part_urls(name) if self.storage.exists(url)))
        return next((record for record in records if record.part_sha256 == checksum), None)

    def _read_record(self, file: str) -> Record | None:
        try:
            return Record.from_bytes(self.storage.read(self._url("_records", file)))
        except (FileNotFoundError, ValueError):
            return None

    def checksum(self, url: str) -> str:
        """SHA-256 of a file, in hex."""
        digest = hashlib.sha256()
        for block in self.storage.blocks(url, 0, int(self.storage.info(url)["size"])):
            digest.update(block)
        return digest.hexdigest()

    # ---- the rest

    def acquire_lease(self, owner: str, seconds: float) -> Lease:
        """Become the one driver of this output. LeaseError tells who is."""
        return Lease.acquire(self.storage, self.output, owner, seconds)

    def write_stats(self, statistics: Mapping[str, Any]) -> None:
        """Put `_stats.json`."""
        self.storage.write(self._url("_stats.json"), json.dumps(dict(statistics), indent=1).encode())

    def clean(self) -> None:
        """Remove what dead or beaten attempts left: temporary files, and side files that no commit refers to.

        Only for the holder of the lease. Side files of shards that are not committed stay: an attempt may be at work.
        """
        for folder in (self.output, self._url("_records"), self._url("_rejects")):
            for entry in self.storage.entries(folder):
                if entry.name.startswith(TEMPORARY):
                    self.storage.delete(f"{folder}/{entry.name}")
        tokens = {record.shard.name: record.token for record in self.records()}
        for folder, entry in self._side_files():
            match = SIDE_FILE.fullmatch(entry.name)
            if match and match[1] in tokens and match[2] != tokens[match[1]]:
                self.storage.delete(f"{folder}/{entry.name}")

    def part_url(self, plan: Plan, shard: Shard) -> str:
        """Where a shard's part is published."""
        return self._url(plan.part_name(shard))

    def rejects_url(self, record: Record) -> str:
        """Where a commit's rejected rows are, if it has any."""
        return self._url("_rejects", f"{record.shard.name}.{record.token}.jsonl")

    def _side_files(self) -> Iterator[tuple[str, Entry]]:
        for folder in (self._url("_records"), self._url("_rejects")):
            for entry in self.storage.entries(folder):
                yield folder, entry

    def _record_url(self, record: Record) -> str:
        return self._url("_records", f"{record.shard.name}.{record.token}.json")

    def _part_urls(self, name: str) -> Iterator[str]:
        return (self._url(f"{name}.{ending}") for ending in ("parquet", "jsonl"))

    def _url(self, *names: str) -> str:
        return "/".join((self.output, *names))

    def _planned(self) -> Plan:
        plan = self.plan()
        if plan is None:
            raise PlanConflict(f"{self.output}: the plan was removed while the run began; start again")
        return plan

    def _require_empty(self) -> None:
        foreign = [entry.name for entry in self.storage.entries(self.output) if not entry.name.startswith(("_", "."))]
        if foreign:
            raise PlanConflict(
                f"{self.output} holds {foreign[0]} and no _plan.json: not an output of this job, or its plan was lost; "
                + REMEDY
            )
