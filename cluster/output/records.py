"""What is counted and kept of finished work: the `Counts` of a shard, its `Part`, the `Record` of its commit, the sums.

A record is written before its part appears, and is enough to audit the part by. `Statistics` adds records up, so a
resumed run reports the whole corpus and not only what it did itself. Seconds of compressing are the workers' own, added
over all workers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cluster.input.shards import ATTEMPT, STORED, BadRow, Count, Shard, parsed
from cluster.output.summary import ShardSummary
from cluster.storage.storage import Storage

STATUSES = ("compressed", "passthrough", "kept", "over_budget", "relaxed", "rejected")
"""What may become of a row; each is a field of `Counts`, and they add up to its rows."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of rows, by status (`STATUSES`).

    `reused` rows, with `reused_tokens` of `origin_tokens`, came from an earlier output instead of from the model.
    `unplanned` rows that were not rejected hold values that no planned column could take.
    `fidelity` is added up over all rows that were not rejected, `predicted` over the `sampled` ones; `numbers` and
    `names`, and those kept, over the rows that this output's own workers cut.
    """

    __pydantic_config__ = STORED

    rows: Count = 0
    compressed: Count = 0
    passthrough: Count = 0
    over_budget: Count = 0
    rejected: Count = 0
    rejects: Mapping[str, Count] = field(default_factory=dict)
    origin_tokens: Count = 0
    compressed_tokens: Count = 0
    reused: Count = 0
    reused_tokens: Count = 0
    relaxed: Count = 0
    fidelity: float = 0.0
    sampled: Count = 0
    predicted: float = 0.0
    kept: Count = 0
    unplanned: Count = 0
    numbers: Count = 0
    numbers_kept: Count = 0
    names: Count = 0
    names_kept: Count = 0

    @property
    def untouched(self) -> bool:
        """Whether no row needed the model: all of them came from an earlier output."""
        return 0 < self.rows == self.reused


@dataclass(frozen=True, slots=True)
class Blob:
    """A finished local file: size in bytes and SHA-256."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Blob:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return cls(path, path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part; `rejects` is None when no row was rejected, `summary` when none was asked for.

    The files go when their writer is closed.
    """

    data: Blob
    rejects: Blob | None
    counts: Counts
    summary: ShardSummary | None = None

    @property
    def attempt_digest(self) -> str:
        """Short digest of all its bytes: tells apart what two attempts at one shard wrote."""
        both = self.data.sha256 + (self.rejects.sha256 if self.rejects else "")
        return hashlib.sha256(both.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Record(Counts):
    """A commit: its shard (with the input's fingerprint), who decided it, its counts, and SHA-256 checksums in hex."""

    shard: Shard
    identity: str  # digest of settings and model
    seconds: Annotated[float, Field(ge=0, le=1e10)]  # time spent compressing
    part_size: Count
    part_sha256: str
    rejects_sha256: str | None
    token: str  # `Part.attempt_digest`, under the name that is stored; part of the names of record and rejects
    committed: str  # moment in UTC

    @classmethod
    def of(cls, shard: Shard, part: Part, identity: str, seconds: float) -> Record:
        return cls(
            **asdict(part.counts),
            shard=shard,
            identity=identity,
            seconds=round(seconds, 3),
            part_size=part.data.size,
            part_sha256=part.data.sha256,
            rejects_sha256=part.rejects.sha256 if part.rejects else None,
            token=part.attempt_digest,
            committed=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @property
    def attempt(self) -> str:
        """What the files of the attempt are called."""
        return f"{self.shard.name}.{self.token}"

    def fault(self, size: int, identity: str) -> str | None:
        """What is wrong with a part of this size in an output of this identity."""
        if self.identity != identity:
            return "was committed by a worker of another plan, which this one has replaced"
        if self.part_size != size:
            return f"is damaged: it has {size:,} bytes and had {self.part_size:,} when it was committed"
        return None

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """The inverse of `to_bytes`. ValueError when it is no record."""
        record = parsed(cls, data, "a commit record")
        if not ATTEMPT.fullmatch(record.attempt):
            raise ValueError(f"not a commit record (no attempt is called {record.attempt})")
        rows = sum(getattr(record, status) for status in STATUSES)
        if sum(record.rejects.values()) != record.rejected or rows != record.rows:
            raise ValueError("not a commit record (its counts do not add up)")
        if record.committed:
            datetime.fromisoformat(record.committed).timestamp()
        return record


def standing(records: Iterable[Record], retried: Collection[str] = ()) -> list[Record]:
    """The records without the rejected rows that others of them, or those of `retried` shards, try again.

    So every row is counted once, where its outcome stands.
    """
    records = list(records)
    names = {*retried, *(record.shard.retried for record in records)}
    return [
        replace(record, rows=record.rows - record.rejected, rejected=0, rejects={})
        if record.shard.name in names
        else record
        for record in records
    ]


def read_rejects(url: str, storage: Storage) -> Iterator[BadRow]:
    """The lines of a file of rejects. ValueError where there is another one."""
    for line in storage.lines(url):
        yield parsed(BadRow, line, "a reject")


@dataclass(frozen=True, slots=True)
class Statistics(Counts):
    """Counts of any number of shards: they add up. In `reused_shards` all rows came from an earlier output."""

    shards: int = 0
    seconds: float = 0.0
    reused_shards: int = 0

    @classmethod
    def of(cls, counts: Counts, seconds: float) -> Statistics:
        own = {entry.name: getattr(counts, entry.name) for entry in fields(Counts)}
        return cls(**own, shards=1, seconds=seconds, reused_shards=int(counts.untouched))

    @classmethod
    def over(cls, records: Iterable[Record], retried: Collection[str] = ()) -> Statistics:
        """The sums over commit records; `retried`: see `standing`."""
        return sum((cls.of(record, record.seconds) for record in standing(records, retried)), cls())

    def __add__(self, other: Statistics) -> Statistics:
        names = [entry.name for entry in fields(self) if entry.name != "rejects"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Statistics(**sums, rejects=Counter(self.rejects) + Counter(other.rejects))

    @property
    def computed_tokens(self) -> int:
        """Original tokens that a model had to see."""
        return self.origin_tokens - self.reused_tokens

    @property
    def rate(self) -> float | None:
        """Kept share of the tokens, None when there were none."""
        return self.compressed_tokens / self.origin_tokens if self.origin_tokens else None

    @property
    def mean_fidelity(self) -> float:
        """Over all rows that were not rejected, 1.0 when there were none."""
        return self.fidelity / (self.rows - self.rejected) if self.rows > self.rejected else 1.0

    @property
    def mean_predicted(self) -> float | None:
        """Over the rows that were sampled, None when none was."""
        return self.predicted / self.sampled if self.sampled else None

    def as_json(self) -> dict[str, Any]:
        predicted, rate = self.mean_predicted, self.rate
        return {
            "shards": self.shards,
            "rows": self.rows,
            "statuses": {status: getattr(self, status) for status in STATUSES},
            "rejects": dict(sorted(self.rejects.items())),
            "unplanned": self.unplanned,
            "origin_tokens": self.origin_tokens,
            "compressed_tokens": self.compressed_tokens,
            "rate": None if rate is None else round(rate, 6),
            "fidelity": round(self.mean_fidelity, 6),
            "numbers": {"found": self.numbers, "kept": self.numbers_kept},
            "names": {"found": self.names, "kept": self.names_kept},
            "fidelity_sample": {"rows": self.sampled, "predicted": None if predicted is None else round(predicted, 6)},
            "worker_seconds": round(self.seconds, 3),
            "reused": {"shards": self.reused_shards, "rows": self.reused, "tokens": self.reused_tokens},
        }


@dataclass(frozen=True)
class StoredRun:
    """What others rely on in `last_run` of `_stats.json`."""

    __pydantic_config__ = STORED

    shards: Count = 0
    rows: Count = 0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    failures: Mapping[str, Count] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(frozen=True)
class StoredStatistics:
    """What others rely on in `_stats.json`."""

    __pydantic_config__ = STORED

    complete: bool = False
    planned_shards: Count = 0
    shards: Count = 0
    rows: Count = 0
    statuses: Mapping[str, Count] = field(default_factory=dict)
    rejects: Mapping[str, Count] = field(default_factory=dict)
    origin_tokens: Count = 0
    compressed_tokens: Count = 0
    last_run: StoredRun = StoredRun()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)


def counted(number: int, noun: str) -> str:
    """A number of things, e.g. ``1 shard`` or ``1,204 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
