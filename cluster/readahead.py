"""`ReadAhead`: an iterator that is advanced in a thread, so that storage is read while the model works.

The thread stops when `max_items` items or `max_weight` units (as told by `weigh`, e.g. bytes) wait to be taken; one
item is always let through, however heavy. Order is kept. What the iterator raises is raised to the consumer in its
place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_ITEMS = 2048
MAX_WEIGHT = 32 << 20


class ReadAhead(Generic[T]):
    """Iterate over it once; `close` stops the thread early."""

    def __init__(
        self, items: Iterator[T], weigh: Callable[[T], int], max_items: int = MAX_ITEMS, max_weight: int = MAX_WEIGHT
    ) -> None:
        self._items = items
        self._weigh = weigh
        self._max_items = max_items
        self._max_weight = max_weight
        self._waiting: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._change = threading.Condition()
        self._exhausted = False
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._advance, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._exhausted)
                if not self._waiting:
                    break
                item, weight = self._waiting.popleft()
                self._weight -= weight
                self._change.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop reading and forget what waits. Safe to call again."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()
        self._thread.join(timeout=30)

    def _advance(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, self._weigh(item)):
                    break
        except Exception as error:  # it belongs to the consumer, in whose thread it is raised again
            self._error = error
        with self._change:
            self._exhausted = True
            self._change.notify_all()

    def _put(self, item: T, weight: int) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._has_room(weight))
            if self._closed:
                return False
            self._waiting.append((item, weight))
            self._weight += weight
            self._change.notify_all()
        return True

    def _has_room(self, weight: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._max_items and self._weight + weight <= self._max_weight
