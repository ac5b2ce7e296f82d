"""`Record`: what one commit holds, written before its part appears, and enough to audit the part by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from cluster.parts import Counts, Part
from cluster.shards import Shard


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
    seconds: float
    part_size: int
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
        try:
            content = json.loads(data)
            return cls(**{**content, "shard": Shard.from_json(content["shard"])})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a commit record ({type(error).__name__}: {error})") from None
