"""A corpus of plain numbers and a ledger in memory, for the driver's tests: commits can be counted exactly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace

from cluster.input.shards import Shard, Source
from cluster.output.records import Counts, Record, Statistics
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from tests.pools import Killed


def shards(count: int) -> list[Shard]:
    source = Source("corpus.jsonl", 100 * count, "v1", "jsonl")
    return [Shard(f"part-{number:05}", source, 100 * number, 100 * (number + 1)) for number in range(count)]


def named(name: str) -> Shard:
    """A shard of that name."""
    return replace(shards(1)[0], name=name)


def record(shard: Shard, report: ShardReport) -> Record:
    """The commit record of a report, without what only files have."""
    return Record(
        **asdict(report.counts),
        shard=shard,
        identity="",
        seconds=report.seconds,
        part_size=0,
        part_sha256="",
        rejects_sha256=None,
        token="",
        committed="",
    )


@dataclass
class MemoryLedger:
    """Create-if-absent commits. `parts`: the rows of each part; `set_aside`: the rejected ones with their reason."""

    commits: dict[str, Record] = field(default_factory=dict)
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    set_aside: dict[str, Mapping[int, str]] = field(default_factory=dict)

    def committed(self) -> Collection[str]:
        return set(self.parts)

    def is_committed(self, shard: str) -> bool:
        return shard in self.parts

    def recorded(self, retried: Collection[str]) -> Statistics:
        return Statistics.over(self.commits.values(), retried)

    def commit(self, shard: Shard, report: ShardReport, rows: tuple[int, ...], rejects: Mapping[int, str]) -> bool:
        if report.shard in self.parts:
            return False
        self.commits[report.shard] = record(shard, report)
        self.parts[report.shard] = rows
        self.set_aside[report.shard] = rejects
        return True


@dataclass
class FarLedger(MemoryLedger):
    """Of workers in other processes, whose commits are not seen here: found in the end as `names` says."""

    names: Collection[str] = ()
    _asked: bool = False

    def committed(self) -> Collection[str]:
        asked, self._asked = self._asked, True
        return self.names if asked else ()


@dataclass
class NumberRunner:
    """Compresses shards of `rows` numbered rows; `poison` rows end the worker, `bad` rows are rejected."""

    ledger: MemoryLedger
    rows: int = 64
    poison: Mapping[str, Collection[int]] = field(default_factory=dict)
    bad: Mapping[str, Collection[int]] = field(default_factory=dict)
    unreadable: Collection[str] = ()

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        name = assignment.shard.name
        if name in self.unreadable:
            raise Killed("reading ended the process")
        aside = {position: why.reason for position, why in assignment.poison.items()}
        rows = [row for row in range(self.rows) if assignment.probe is None or row in assignment.probe]
        if set(rows) & set(self.poison.get(name, ())) - set(aside):
            raise Killed("a poison row")
        if assignment.probe is not None:
            return ShardReport(name, "probed", Counts(self.rows))
        return self._commit(assignment.shard, aside)

    def beat(self) -> Beat:
        return Beat()

    def _commit(self, shard: Shard, aside: Mapping[int, str]) -> ShardReport:
        name = shard.name
        rejects = {**dict.fromkeys(self.bad.get(name, ()), "bad"), **aside}
        kept = tuple(row for row in range(self.rows) if row not in rejects)
        counts = {reason: list(rejects.values()).count(reason) for reason in rejects.values()}
        tokens = 10 * self.rows, 5 * self.rows
        report = ShardReport(
            name, "committed", Counts(self.rows, len(kept), 0, 0, len(rejects), counts, *tokens), seconds=0.5
        )
        return report if self.ledger.commit(shard, report, kept, rejects) else ShardReport(name, "already")
