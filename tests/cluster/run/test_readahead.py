"""`ReadAhead`: order, bounds, errors and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cluster.input.reader import ReadAhead


def counting(limit: int, taken: list[int]) -> Iterator[int]:
    for number in range(limit):
        taken.append(number)
        yield number


def settle(taken: list[int]) -> int:
    """How many items were taken once the thread has nothing more to do."""
    seen = -1
    while seen != len(taken):
        seen = len(taken)
        time.sleep(0.02)
    return seen


def test_items_come_in_order_and_all() -> None:
    assert list(ReadAhead(iter(range(5000)), weigh=lambda _: 1)) == list(range(5000))


@pytest.mark.parametrize(("bound", "expected"), [({"max_items": 7}, 8), ({"max_weight": 30}, 4)])
def test_it_reads_no_further_than_its_bounds(bound: dict[str, int], expected: int) -> None:
    taken: list[int] = []
    ahead = ReadAhead(counting(1000, taken), weigh=lambda _: 10, **bound)
    assert settle(taken) == expected  # the bound, and one item in the hand
    ahead.close()


def test_an_item_heavier_than_the_bound_passes_alone() -> None:
    assert list(ReadAhead(iter([1, 100, 1]), weigh=lambda item: item, max_weight=10)) == [1, 100, 1]


def test_an_error_arrives_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    ahead = iter(ReadAhead(broken(), weigh=lambda _: 1))
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = ReadAhead(counting(10**9, []), weigh=lambda _: 1, max_items=3)
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
