"""Intervals by resampling rows: percentile bootstrap (Efron 1979), the same rows for everything that is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Means of the columns [..., k] → one figure each [...]."""
LEVEL = 0.95
_BLOCK = 1 << 22
"""Numbers of one block of resampled rows."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval of 95%; `rows` is how many it rests on."""

    value: float
    low: float
    high: float
    rows: int


def estimate(columns: Floats, statistic: Statistic, resamples: int = 2000, seed: int = 0) -> Estimate:
    """A statistic of the means of `columns` [rows, k], with its interval; rows are drawn whole, so it is paired."""
    rows = len(columns)
    if rows == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    means = np.concatenate(list(_resampled(columns, resamples, np.random.default_rng(seed))))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = statistic(means)
        value = float(statistic(columns.mean(0, keepdims=True))[0])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(value, float("nan"), float("nan"), rows)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), rows)


def mean(means: Floats) -> Floats:
    """The mean of the only column."""
    return means[..., 0]


def share(means: Floats) -> Floats:
    """Columns (nll of nothing, of the whole context, of a candidate) → share of the whole context's advantage."""
    nothing, full, candidate = means[..., 0], means[..., 1], means[..., 2]
    result: Floats = (nothing - candidate) / (nothing - full)
    return result


def share_difference(means: Floats) -> Floats:
    """Columns (nothing, full, candidate, other) → share of the candidate less that of the other."""
    nothing, full, candidate, other = (means[..., column] for column in range(4))
    result: Floats = (other - candidate) / (nothing - full)
    return result


def difference(means: Floats) -> Floats:
    """Columns (candidate, other) → mean of the first less that of the second."""
    result: Floats = means[..., 0] - means[..., 1]
    return result


def _resampled(columns: Floats, resamples: int, chance: np.random.Generator) -> Iterator[Floats]:
    """Means [some, k] of rows drawn with replacement, in blocks that fit into memory."""
    rows = len(columns)
    at_once = max(1, _BLOCK // columns.size)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        weights = chance.multinomial(rows, np.full(rows, 1 / rows), size=count) / rows
        yield weights @ columns
