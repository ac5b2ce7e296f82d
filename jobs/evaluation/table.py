"""From measurements to the summary: one `Line` per set, size, candidate and target, as data, as Markdown, as text.

What compares is paired: a figure of a candidate rests on the rows of which all that it needs was measured, and
intervals resample whole rows. The share of the full prompt's advantage is (nll of nothing − nll) / (nll of nothing −
nll of the whole context), of the means over rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jobs.evaluation.bootstrap import Estimate, Floats, Statistic, difference, estimate, mean, share, share_difference
from jobs.evaluation.measured import FULL, NOTHING, REJECTED, Measured

NLL = "nll"
SHARE = "share"
FIRST = ("kept", "answer_kept", "gold_kept", "gold_share", "information", "numbers", "names", "readable", "run_length")
"""Metrics that need no target, in the order of the columns."""
NOT_AVERAGED = ("tokens", "origin_tokens", "asked", NLL)

Group = tuple[str, float | None, str, str]
"""(set, size, candidate, target)"""
Values = Mapping[Group, Mapping[str, Mapping[str, float]]]
"""group → metric → row → value"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a candidate came to.

    rate      asked size, None for the references    target   "" without one
    rows      measured; `rejected` could not be
    figures   metric → mean; ``share`` of the full prompt's advantage
    against   metric → paired difference to the baseline's
    """

    set: str
    rate: float | None
    candidate: str
    target: str
    rows: int
    rejected: int
    figures: Mapping[str, Estimate]
    against: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """All lines; `baseline` is the candidate that others are compared with."""

    baseline: str
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"baseline": self.baseline, "lines": [asdict(line) for line in self.lines]}


@dataclass(frozen=True, slots=True)
class Draws:
    """How intervals are drawn."""

    resamples: int = 2000
    seed: int = 0


def summarize(measured: Iterable[Measured], baseline: str, draws: Draws = Draws()) -> Summary:
    """The summary of an evaluation; measurements without a target count for every target of their row as well."""
    values: dict[Group, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    rejected: dict[Group, int] = defaultdict(int)
    for one in measured:
        group = one.set, one.rate, one.candidate, one.target
        rejected[group] += REJECTED in one.texts
        for name, value in one.values.items():
            values[group][name][one.row] = value
    make = _Lines(values, baseline, draws)
    lines = [make.line(group, rejected[group]) for group in {**values, **rejected}]
    return Summary(baseline, tuple(lines))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Makes the lines of one evaluation."""

    values: Values
    baseline: str
    draws: Draws

    def line(self, group: Group, rejected: int) -> Line:
        own = self.values.get(group, {})
        figures = {name: self._estimate([rows], mean) for name, rows in own.items() if name != "asked"}
        against = dict(self._against(group))
        if (columns := self._share_columns(group)) is not None:
            figures[SHARE] = self._estimate(columns, share)
        rows = len(set().union(*own.values())) if own else 0
        return Line(*group, rows, rejected, figures, against)

    def _against(self, group: Group) -> Iterator[tuple[str, Estimate]]:
        """Differences to the baseline at the same size."""
        name, size, candidate, target = group
        other = name, size, self.baseline, target
        if size is None or candidate == self.baseline or other not in self.values:
            return
        for metric, rows in self.values.get(group, {}).items():
            if metric not in NOT_AVERAGED and metric in self.values[other]:
                yield metric, self._estimate([rows, self.values[other][metric]], difference)
        columns = self._share_columns(group)
        if columns is not None and NLL in self.values[other]:
            yield SHARE, self._estimate([*columns, self.values[other][NLL]], share_difference)

    def _share_columns(self, group: Group) -> list[Mapping[str, float]] | None:
        """Nll per row of nothing, of the whole context and of this group."""
        name, _, _, target = group
        found = [self.values.get(key, {}).get(NLL) for key in (*_references(name, target), group)]
        return [column for column in found if column] if all(found) else None

    def _estimate(self, columns: Sequence[Mapping[str, float]], statistic: Statistic) -> Estimate:
        return estimate(paired(columns), statistic, self.draws.resamples, self.draws.seed)


def paired(columns: Sequence[Mapping[str, float]]) -> Floats:
    """Values [rows, k] of the rows that all columns have."""
    shared = [row for row in columns[0] if all(row in column for column in columns[1:])]
    return np.array([[column[row] for column in columns] for row in shared], float).reshape(len(shared), len(columns))


def _references(name: str, target: str) -> tuple[Group, Group]:
    return (name, None, NOTHING, target), (name, None, FULL, target)
