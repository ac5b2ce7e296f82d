"""How long a CUDA device ran kernels: the union of their intervals under torch's profiler.

The profiler slows the host, not the kernels: their sum is set against the wall time of a run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def kernel_seconds(work: Callable[[], object]) -> float:
    """Seconds in which at least one kernel or copy ran while `work` did."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
    return busy_seconds(profiler)


def busy_seconds(profiler: profile) -> float:
    """Seconds of a profile in which at least one kernel or copy ran; what merely names a stretch of time is none."""
    found: Any = profiler
    events = (one for one in found.events() or () if one.device_type.name == "CUDA" and not one.is_user_annotation)
    return covered((event.time_range.start, event.time_range.end) for event in events) / 1e6


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
