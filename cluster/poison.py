"""`Hunt`: finds the rows that end every worker by halving the shard, as in delta debugging (Zeller & Hildebrandt 2002).

A hunt asks for probes (`next_probe`) and is told how each ended (`survived`, `killed`). A probe compresses a range of
rows and commits nothing. A half is condemned unseen when the other half of a condemned range survived, but a single row
only after it ended two workers by itself: an accident never costs a healthy row. Known poison is left out of later
probes, so that several poison rows in one shard are found one after the other. No I/O, no clock, no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.messages import Failure, FailureKind, PoisonRow, RowRange

CONFIRMATIONS = 2
MAX_POISON_ROWS = 25
COUNTING = RowRange(0, 0)

REASONS: Mapping[FailureKind, str] = {
    "died": "killed_worker",
    "stalled": "stalled_worker",
    "crashed": "crashed_worker",
    "lost": "killed_machine",
}


@dataclass(slots=True)
class _Suspicion:
    """A range of rows; `condemned`: it must hold poison; `deaths` it caused; `other`: the half not tried yet."""

    rows: RowRange
    condemned: bool
    deaths: int = 0
    other: _Suspicion | None = None


class Hunt:
    """A search for the poison rows of one shard. `gave_up` says in words why it cannot be continued."""

    def __init__(self) -> None:
        self.poison: list[PoisonRow] = []
        self.gave_up: str | None = None
        self._open: list[_Suspicion] = []
        self._current: _Suspicion | None = None
        self._counting_deaths = 0
        self._counted = False

    def next_probe(self) -> RowRange | None:
        """The rows to try now, or None when the search is over. Asking again repeats the answer."""
        if self.gave_up is not None:
            return None
        if not self._counted:
            return COUNTING
        if self._current is None:
            self._current = self._choose()
        return self._current.rows if self._current else None

    def survived(self, rows_in_shard: int) -> None:
        """The probe went through; `rows_in_shard` is how many rows the worker saw in the whole shard."""
        if not self._counted:
            self._counted = True
            self._open.append(_Suspicion(RowRange(0, rows_in_shard), condemned=True))
        self._current = None

    def killed(self, failure: Failure) -> None:
        """The probe ended its worker."""
        if not self._counted:
            self._reading_killed(failure)
            return
        suspicion, self._current = self._current, None
        if suspicion is None:
            return
        suspicion.condemned = True
        suspicion.deaths += 1
        if suspicion.other is not None:
            suspicion.other.condemned = False  # this half is guilty: nothing is known about the other any more
        if len(suspicion.rows) == 1 and suspicion.deaths >= CONFIRMATIONS:
            self._convict(suspicion.rows.start, failure)
        else:
            self._open.append(suspicion)

    def _choose(self) -> _Suspicion | None:
        while self._open:
            suspicion = self._open.pop()
            if len(suspicion.rows) == 0:
                continue
            if len(suspicion.rows) == 1 or not suspicion.condemned:
                return suspicion
            first, second = suspicion.rows.halves()
            other = _Suspicion(second, condemned=True)
            self._open.append(other)
            return _Suspicion(first, condemned=False, other=other)
        return None

    def _convict(self, position: int, failure: Failure) -> None:
        reason = REASONS.get(failure.kind, "killed_worker")
        detail = f"compressing this row alone ended {CONFIRMATIONS} workers: {failure.detail}"
        self.poison.append(PoisonRow(position, reason, detail))
        if len(self.poison) >= MAX_POISON_ROWS:
            self.gave_up = f"{MAX_POISON_ROWS} rows of it end their worker; this looks like the machines, not the rows"

    def _reading_killed(self, failure: Failure) -> None:
        self._counting_deaths += 1
        if self._counting_deaths >= CONFIRMATIONS:
            self.gave_up = f"reading it, without compressing anything, ends the worker: {failure.detail}"
