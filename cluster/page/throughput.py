"""`Throughput`: tokens per second over the time in which anything was done, from the commit records of all runs.

A shard's tokens are spread evenly over the seconds that it took until its commit. Time in which no shard was in hand,
between two runs, say, is left out of the axis and only added up. What was reused from an earlier output is not
shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cluster.records import Record

BARS = 60
SHORTEST = 0.001
"""Seconds that a shard counts for at least: commit moments are whole seconds, and its share must be spread."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """bars [BARS]: tokens per second in each of equal stretches of `seconds` altogether; `idle`: seconds left out."""

    bars: tuple[float, ...] = ()
    seconds: float = 0.0
    idle: float = 0.0
    begin: datetime | None = None
    end: datetime | None = None

    @classmethod
    def over(cls, records: Iterable[Record]) -> Throughput:
        """The throughput of all commits whose moment is known."""
        spans = sorted(_span(record) for record in records if record.committed and not record.untouched)
        if not spans:
            return cls()
        worked, idle = _without_gaps(spans)
        seconds = max(end for _, end, _ in worked)
        begin, end = spans[0][0], max(end for _, end, _ in spans)
        moments = (datetime.fromtimestamp(moment).astimezone() for moment in (begin, end))
        return cls(_spread(worked, seconds), seconds, idle, *moments)


_Span = tuple[float, float, int]
"""Begin and end in seconds, and the tokens of a shard."""


def _span(record: Record) -> _Span:
    end = datetime.fromisoformat(record.committed).timestamp()
    return end - max(record.seconds, SHORTEST), end, record.origin_tokens - record.reused_tokens


def _without_gaps(spans: Sequence[_Span]) -> tuple[list[_Span], float]:
    """The spans on an axis from 0 without the stretches that none covers, and how long those were."""
    first = reach = spans[0][0]
    idle, worked = 0.0, []
    for begin, end, tokens in spans:
        idle += max(0.0, begin - reach)
        reach = max(reach, end)
        worked.append((begin - first - idle, end - first - idle, tokens))
    return worked, idle


def _spread(spans: Iterable[_Span], seconds: float) -> tuple[float, ...]:
    width = seconds / BARS
    bars = [0.0] * BARS
    for begin, end, tokens in spans:
        for index in range(int(begin / width), min(BARS, int(end / width) + 1)):
            covered = min(end, (index + 1) * width) - max(begin, index * width)
            bars[index] += max(0.0, covered) / (end - begin) * tokens / width
    return tuple(bars)
