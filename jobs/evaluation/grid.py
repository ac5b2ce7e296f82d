"""The units of work: sets × candidates × targets, in chunks of rows, all sizes of a chunk together.

In the stage ``compress`` a unit compresses its rows once at every size and measures what is left; in the stage ``ask``
one target reads what an earlier unit left. A unit commits one file under its own name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.shards import Shard, Source
from jobs.evaluation.settings import EvalConfig

Stage = Literal["compress", "ask"]
Sizes = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows [start, stop) of a set under one candidate at all `sizes` (None: a reference, which has none).

    `target` is "" in the stage ``compress``.
    """

    set: str
    candidate: str
    target: str
    start: int
    stop: int
    sizes: Sizes = (None,)

    @property
    def name(self) -> str:
        """Of its file: none of the three names holds a dot."""
        return ".".join(filter(None, (self.set, self.candidate, self.target, f"{self.start:06d}-{self.stop:06d}")))

    @property
    def compressed(self) -> Unit:
        """The unit that compressed these rows."""
        return replace(self, target="")

    def shard(self) -> Shard:
        """As the driver sees it."""
        source = Source(f"{self.set}, {self.candidate}", 0, "", "jsonl")
        return Shard(self.name, source, self.start, self.stop, self.start, self.stop - self.start)


@dataclass(frozen=True, slots=True)
class Wave:
    """Units that may run side by side, once all earlier waves are committed."""

    stage: Stage
    title: str
    units: tuple[Unit, ...]


def waves(config: EvalConfig, rows: Mapping[str, int]) -> list[Wave]:
    """All units; `rows` is the number of rows of each set.

    What the peer keeps is known before the others start if they are to keep as much.
    """
    first = config.peers if config.match_peer else []
    sizes: dict[str, Sizes] = {one.name: config.sizes if one.sized else (None,) for one in config.all_candidates}
    peers, others = ({name: sizes[name] for name in sizes if (name in first) == wanted} for wanted in (True, False))
    chunks = list(_chunks(rows, config.chunk))
    found = [
        Wave("compress", "the peer compresses", tuple(_units(chunks, peers, [""]))),
        Wave("compress", "compressing", tuple(_units(chunks, others, [""]))),
        Wave("ask", "asking", tuple(_units(chunks, sizes, [target.name for target in config.targets]))),
    ]
    return [wave for wave in found if wave.units]


def _chunks(rows: Mapping[str, int], size: int) -> Iterator[tuple[str, int, int]]:
    for name, count in rows.items():
        for start in range(0, count, size):
            yield name, start, min(start + size, count)


def _units(
    chunks: Sequence[tuple[str, int, int]], candidates: Mapping[str, Sizes], targets: Sequence[str]
) -> Iterator[Unit]:
    for target in targets:
        for name, start, stop in chunks:
            for candidate, sizes in candidates.items():
                yield Unit(name, candidate, target, start, stop, sizes)
