"""`Clocked`: a scorer that adds up the time for which it was asked to compute; all else is the scorer's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lingua.score import Context, Row, Scorer, Surprisal


def _passed_on(name: str) -> Any:
    return property(
        lambda clocked: getattr(clocked.scorer, name), lambda clocked, value: setattr(clocked.scorer, name, value)
    )


class Clocked:
    """Answers as `scorer` does.

    seconds   how long it has computed; its answers are on the host, so the device is done
    """

    window: int = _passed_on("window")
    batch_tokens: int = _passed_on("batch_tokens")
    live_tokens: int = _passed_on("live_tokens")

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.seconds = 0.0

    @property
    def probe_tokens(self) -> int:
        return self.scorer.probe_tokens

    def cached(self, context: Context) -> int:
        return self.scorer.cached(context)

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        started = time.perf_counter()
        try:
            return self.scorer.score(rows)
        finally:
            self.seconds += time.perf_counter() - started
