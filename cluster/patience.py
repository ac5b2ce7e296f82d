"""`Patience`: waiting for a lease that runs out because whoever held it died; a driver that lives is not waited for.

A living driver renews its lease every quarter of its seconds. So a start that finds the output in use watches the
lease: renewed meanwhile, or taken by another, it is in good hands, and the start is refused as before; not renewed
until it has run out, it is taken over. A retry that comes at once after a driver was killed goes on by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from cluster.errors import InUseError
from cluster.lease import Holder, Lease
from cluster.ledger import Ledger

SECONDS_BETWEEN_LOOKS = 1.0


def say(message: str) -> None:
    """To standard error, where progress goes."""
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a lease is waited for, in seconds, while it is `wanted` at all."""

    seconds: float
    wanted: Callable[[], bool] = lambda: True
    say: Callable[[str], None] = say
    sleep: Callable[[float], None] = time.sleep

    def acquire(self, ledger: Ledger, owner: str, seconds: float) -> Lease:
        """Become the one driver of an output, for `seconds`. LeaseError when another one lives, or after the wait."""
        deadline = time.time() + self.seconds
        watched: Holder | None = None
        while True:
            try:
                return ledger.acquire_lease(owner, seconds)
            except InUseError as refusal:
                if refusal.holder.expires > deadline or not self.wanted() or _moved(watched, refusal.holder):
                    raise
                if watched is None:
                    watched = refusal.holder
                    self.say(f"in use by {watched.who}; waiting: if it died, its lease runs out at {watched.ends}")
                self.sleep(max(0.01, min(SECONDS_BETWEEN_LOOKS, watched.expires - time.time())))


def _moved(before: Holder | None, now: Holder) -> bool:
    """Whether somebody has touched the lease since it was seen first."""
    return before is not None and (before.token, before.renewed) != (now.token, now.renewed)
