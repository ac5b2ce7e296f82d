"""`Record`: what one commit holds, written before its part appears, and enough to audit the part by."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Annotated

from pydantic import Field

from cluster.parts import Counts, Part
from cluster.shards import NAME, Shard
from cluster.validated import Count, parsed

TOKEN = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Record(Counts):
    """A commit: its shard (with the input's fingerprint), who decided it, its counts, and SHA-256 checksums in hex.

    identity   digest of settings and model
    seconds    time spent compressing
    token      digest of all that the attempt wrote; part of the names of record and rejects
    committed  moment in UTC
    """

    shard: Shard
    identity: str
    seconds: Annotated[float, Field(ge=0, le=1e10)]
    part_size: Count
    part_sha256: str
    rejects_sha256: str | None
    token: str
    committed: str

    @classmethod
    def of(cls, shard: Shard, part: Part, identity: str, seconds: float) -> Record:
        """The record of a finished part."""
        return cls(
            **asdict(part.counts),
            shard=shard,
            identity=identity,
            seconds=round(seconds, 3),
            part_size=part.data.size,
            part_sha256=part.data.sha256,
            rejects_sha256=part.rejects.sha256 if part.rejects else None,
            token=part.token,
            committed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """The inverse of `to_bytes`. ValueError when it is no record."""
        record = parsed(cls, data, "a commit record")
        if not NAME.fullmatch(record.shard.name) or not TOKEN.fullmatch(record.token):
            raise ValueError(f"not a commit record (no attempt is called {record.shard.name}.{record.token})")
        settled = record.compressed + record.passthrough + record.kept + record.over_budget + record.relaxed
        if sum(record.rejects.values()) != record.rejected or settled + record.rejected != record.rows:
            raise ValueError("not a commit record (its counts do not add up)")
        return record
