"""`Budget`: how many requests and tokens an evaluation may pay for; kept exactly in requests, closely in tokens.

A request reserves what it may cost at most before it is sent, and settles what it did cost when its answer is there; so
requests that run at the same time cannot overspend together. A budget is one object's in one process: workers that
share a limit are given a part of it each (`split`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from cluster.errors import AbortRun


class BudgetSpent(AbortRun):
    """The next request would exceed the budget. What was answered is kept; with a higher limit the run goes on."""


@dataclass(slots=True)
class Budget:
    """Limits (None: none) and what is spent of them. Safe to use from many threads."""

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0
    _reserved: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, tokens: int) -> None:
        """Take one request of at most about `tokens` tokens. BudgetSpent when there is no room for it."""
        with self._lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpent(f"the budget of {self.max_requests:,} requests is spent")
            if self.max_tokens is not None and self.tokens + self._reserved + tokens > self.max_tokens:
                raise BudgetSpent(
                    f"the next request of about {tokens:,} tokens would exceed the budget of {self.max_tokens:,} "
                    f"tokens ({self.tokens:,} are spent, {self._reserved:,} in flight)"
                )
            self.requests += 1
            self._reserved += tokens

    def settle(self, reserved: int, spent: int) -> None:
        """A reserved request is over and has cost `spent` tokens."""
        with self._lock:
            self._reserved -= reserved
            self.tokens += spent

    def split(self, parts: int) -> Budget:
        """An equal share for each of `parts` workers, rounded down."""
        requests = None if self.max_requests is None else self.max_requests // parts
        return Budget(requests, None if self.max_tokens is None else self.max_tokens // parts)

    def __str__(self) -> str:
        return f"{self.requests:,} requests, {self.tokens:,} tokens"


def estimate(prompt: str, max_tokens: int) -> int:
    """About the most that a request may cost: a token for every three bytes, which most texts stay below."""
    return len(prompt.encode()) // 3 + 1 + max_tokens
