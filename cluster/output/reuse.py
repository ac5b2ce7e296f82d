"""`Previous`: an earlier output of the same settings and model, and what a new one takes over from it.

A shard that covers the same stretch of the same unchanged file is published again as it is, under its new name, with a
record of the new plan: no row of it is decoded and no worker is needed. The rows of other shards are looked up one by
one by the workers (`row_reuse`). An output of other settings, or of another model, shares no row with the new one: it
is refused before anything is written, since a run that was meant to be cheap should not turn into a full one unseen.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from cluster.config import JobConfig
from cluster.errors import DamagedFile, PlanConflict, RetryShard
from cluster.input.inputs import find_files, literal_part
from cluster.input.shards import UNKNOWN_VERSION, Shard, Source
from cluster.logs import event
from cluster.output.ledger import Ledger
from cluster.output.plan import Identity, Plan
from cluster.output.records import Blob, Counts, Part, Record
from cluster.output.row_reuse import Earlier, EarlierPart
from cluster.output.summary import ShardSummary
from cluster.storage.listing import is_pattern
from cluster.storage.local import Scratch
from cluster.storage.storage import Storage

AT_ONCE = 4
"""Parts that are copied at once; each is on the local disk as a whole for a moment."""

_Stretch = tuple[Source, int, int]


@dataclass(frozen=True)
class Previous:
    """An earlier output and its plan."""

    ledger: Ledger
    plan: Plan

    @cached_property
    def records(self) -> list[Record]:
        """Its commits, those of another hand left out."""
        identity = self.plan.identity.digest()
        return [record for record in self.ledger.records() if record.identity == identity]

    def hand_over(self, ledger: Ledger, plan: Plan, still_wanted: Callable[[], bool]) -> Earlier:
        """`republish`, and say so; what the workers may find of the rest."""
        shards = self.republish(ledger, plan, still_wanted)
        print(f"Reused {shards:,} of {len(plan.shards):,} shards as they are in {self.ledger.output}.")
        return self.earlier(plan, ledger.committed())

    def republish(self, ledger: Ledger, plan: Plan, still_wanted: Callable[[], bool]) -> int:
        """Commit every shard that did not change, until it is `still_wanted` no more; how many were.

        Only for the holder of the new output's lease. What cannot be taken over is left to the workers.
        """
        copy = _Copy(self.ledger, ledger, plan)
        unchanged = list(self.unchanged(plan, ledger.committed()))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            done = threads.map(lambda pair: still_wanted() and copy.publish(*pair), unchanged)
            return sum(done)

    def earlier(self, plan: Plan, committed: Collection[str]) -> Earlier:
        """What the workers need to look up the rows of the shards that are not committed yet.

        A file's rows are looked for in the parts of the file of that path; those of a new path in the parts of all
        files that are gone, so that files may be renamed or written again under other names.
        """
        wanted = {shard.source.path for shard in plan.shards if shard.name not in committed}
        own = self._parts_by_path()
        present = {source.path for source in plan.sources}
        gone = tuple(part for path, parts in own.items() if path not in present for part in parts)
        parts = {path: tuple(own[path]) if path in own else gone for path in sorted(wanted)}
        return Earlier(self.ledger.output, replace(self.plan, sources=(), shards=()), parts)

    def _parts_by_path(self) -> Mapping[str, list[EarlierPart]]:
        found: dict[str, list[EarlierPart]] = defaultdict(list)
        for record in self.records:
            url, rows = self.ledger.part_url(self.plan, record.shard), record.rows - record.rejected
            if rows:
                part = EarlierPart(url, record.part_size, record.part_sha256, record.shard.first_row, rows)
                found[record.shard.source.path].append(part)
        return found

    def unchanged(self, plan: Plan, committed: Collection[str]) -> Iterator[tuple[Record, Shard]]:
        """Each shard that is missing with the earlier commit of the same stretch of the same file."""
        if _form(self.plan) != _form(plan):
            return
        known = {_stretch(record.shard): record for record in self.records}
        for shard in plan.shards:
            record = known.get(_stretch(shard))
            if record is not None and shard.name not in committed and shard.source.version != UNKNOWN_VERSION:
                yield record, shard


def open_previous(config: JobConfig, model_digest: str) -> Previous | None:
    """The output that ``reuse`` names. PlanConflict when nothing of it could be used."""
    output = config.reuse
    if output is not None and is_pattern(output) and not Storage(config.storage_options).exists(output):
        output = latest(config)
    if output is None:
        return None
    ledger = Ledger(output, config.storage_options)
    plan = ledger.plan()
    if plan is None:
        raise PlanConflict(f"reuse = {output}: has no _plan.json, so it is no output of this job; check the path")
    if found := plan.identity.row_differences(Identity.beside(plan.identity, config, model_digest)):
        raise PlanConflict(
            f"reuse = {output}: nothing of it can be used: {'; '.join(found[:10])}; "
            "use the same settings, or leave reuse out to compress every row"
        )
    return Previous(ledger, plan)


def latest(config: JobConfig) -> str | None:
    """Of the outputs that the glob ``reuse`` stands for, the last complete one by name; None if there is none yet."""
    storage = Storage(config.storage_options)
    urls = [url for url, _ in find_files(*literal_part(f"{config.reuse}/_stats.json", storage), storage)]
    for url in sorted(urls, reverse=True):
        output = url.rpartition("/")[0]
        if output != config.output and Ledger(output, config.storage_options).statistics().get("complete"):
            return output
    print(f"No complete output among {config.reuse} yet: every row is compressed.")
    return None


@dataclass(frozen=True)
class _Copy:
    """From one ledger to another."""

    source: Ledger
    target: Ledger
    plan: Plan

    def publish(self, record: Record, shard: Shard) -> bool:
        """Commit the part of `record` as that of `shard`; False when it is gone, damaged or not to be read."""
        started = time.perf_counter()
        with closing(Scratch()) as scratch:
            try:
                part = self._fetch(record, scratch.path)
                self.target.commit(self.plan, shard, part, time.perf_counter() - started)
            except (FileNotFoundError, RetryShard, DamagedFile, ValueError) as error:
                event("not reused", shard=shard.name, earlier=record.shard.name, reason=str(error))
                return False
        return True

    def _fetch(self, record: Record, folder: Path) -> Part:
        # the plan only gives the ending, and that is the same in both
        data = self._download(self.source.part_url(self.plan, record.shard), folder / "part", record.part_sha256)
        rejects = None
        if record.rejects_sha256 is not None:
            rejects = self._download(self.source.rejects_url(record), folder / "rejects", record.rejects_sha256)
        return Part(data, rejects, _reused(record), self._summary(record))

    def _download(self, url: str, path: Path, sha256: str) -> Blob:
        storage = self.source.storage
        with path.open("wb") as file:
            file.writelines(storage.blocks(url, 0, int(storage.info(url)["size"])))
        blob = Blob.of(path)
        if blob.sha256 != sha256:
            raise ValueError(f"{url}: differs from the checksum in its commit record")
        return blob

    def _summary(self, record: Record) -> ShardSummary | None:
        summary = self.source.summary(record)
        return replace(summary, slowest=()) if summary else None  # nothing was slow this time


def _reused(record: Record) -> Counts:
    counts = {entry.name: getattr(record, entry.name) for entry in fields(Counts)}
    return replace(Counts(**counts), reused=record.rows, reused_tokens=record.origin_tokens)


def _form(plan: Plan) -> tuple[object, ...]:
    """What the bytes of a part depend on beside its rows and their results."""
    return plan.output_format, plan.columns.to_json()


def _stretch(shard: Shard) -> _Stretch:
    return shard.source, shard.start, shard.end
