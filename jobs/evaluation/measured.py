"""`Measured`: what was measured on one row of one candidate at one size, one JSON line each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

FULL = "full"
NOTHING = "nothing"
REFERENCES = (FULL, NOTHING)
"""Candidates without a rate: the uncompressed context, and none."""
CONTEXT = "context"
OUTPUT = "output"
REJECTED = "rejected"
"""Keys of `Measured.texts`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of one row.

    rate     asked share of the context's tokens; above 1 a number of tokens; None for the references
    target   name of the model that was asked; "" for metrics that need none
    values   metric → value, e.g. ``nll`` (nats), ``tokens``, ``answer_kept`` (0 or 1), ``f1``; a metric that does not
             apply to a row is absent
    texts    ``context``: what is left of it (of target ""); ``output``: what a target generated; ``rejected``: why the
             row could not be measured
    """

    row: str
    set: str
    candidate: str
    rate: float | None
    target: str
    values: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, keys in order, numbers to nine digits: the same values give the same line."""
        values = {name: float(f"{value:.9g}") for name, value in sorted(self.values.items()) if math.isfinite(value)}
        return json.dumps({**asdict(self), "values": values}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Measured:
        """The inverse of `to_json`."""
        return cls(**json.loads(line))


def read_lines(data: bytes) -> list[Measured]:
    """The records of a file of JSON lines."""
    return [Measured.from_json(line) for line in data.split(b"\n") if line]


def write_lines(measured: Iterable[Measured]) -> bytes:
    """The file of these records."""
    return "".join(item.to_json() + "\n" for item in measured).encode()
