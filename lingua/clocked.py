"""`Clocked`: a scorer that adds up the time for which it was asked to compute; all else is the scorer's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lingua.score import Answers, Context, Row, Scorer, Surprisal, ahead_of, start


def _passed_on(name: str) -> Any:
    return property(
        lambda clocked: getattr(clocked.scorer, name), lambda clocked, value: setattr(clocked.scorer, name, value)
    )


class Clocked:
    """Answers as `scorer` does.

    seconds   how long batches were under way, from their beginning until their answers were on the host
    """

    window: int = _passed_on("window")
    batch_tokens: int = _passed_on("batch_tokens")
    live_tokens: int = _passed_on("live_tokens")

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.seconds = 0.0
        self._until = 0.0

    @property
    def ahead(self) -> int:
        return ahead_of(self.scorer)

    @property
    def probe_tokens(self) -> int:
        return self.scorer.probe_tokens

    def cached(self, context: Context) -> int:
        return self.scorer.cached(context)

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        return self.start(rows)()

    def start(self, rows: Sequence[Row]) -> Answers:
        begun = time.perf_counter()
        try:
            answers = start(self.scorer, rows)
        finally:
            self._count(begun)
        return lambda: self._finish(begun, answers)

    def _finish(self, begun: float, answers: Answers) -> list[Surprisal]:
        try:
            return answers()
        finally:
            self._count(begun)

    def _count(self, begun: float) -> None:
        """Add the time since `begun`, as far as it was not counted for another batch."""
        now = time.perf_counter()
        self.seconds += now - max(begun, self._until)
        self._until = now
