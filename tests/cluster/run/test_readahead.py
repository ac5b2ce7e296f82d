"""`ReadAhead`: order, bounds, errors and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cluster.input.reader import ReadAhead
from cluster.input.shards import WINDOW_BYTES, WINDOW_ROWS, BadRow


def rows(count: int, taken: list[int], raw: str = "") -> Iterator[BadRow]:
    for number in range(count):
        taken.append(number)
        yield BadRow(number, "reason", "detail", raw)


def settle(taken: list[int]) -> int:
    """How many rows were taken once the thread has nothing more to do."""
    seen = -1
    while seen != len(taken):
        seen = len(taken)
        time.sleep(0.02)
    return seen


def test_rows_come_in_order_and_all() -> None:
    assert [row.number for row in ReadAhead(rows(5000, []))] == list(range(5000))


@pytest.mark.parametrize(("raw", "window"), [("", WINDOW_ROWS), ("x" * (WINDOW_BYTES // 4), 4)])
def test_it_reads_one_window_ahead_of_the_one_in_use(raw: str, window: int) -> None:
    taken: list[int] = []
    ahead = ReadAhead(rows(10_000, taken, raw))
    assert settle(taken) == window
    next(iter(ahead))
    assert settle(taken) == 2 * window
    ahead.close()


def test_a_row_larger_than_a_window_passes_alone() -> None:
    assert [row.number for row in ReadAhead(rows(3, [], "x" * 2 * WINDOW_BYTES))] == [0, 1, 2]


def test_an_error_arrives_after_the_windows_before_it() -> None:
    def broken() -> Iterator[BadRow]:
        yield from rows(WINDOW_ROWS, [])
        raise ValueError("damaged")

    ahead = iter(ReadAhead(broken()))
    assert [next(ahead).number for _ in range(WINDOW_ROWS)] == list(range(WINDOW_ROWS))
    with pytest.raises(ValueError, match="damaged"):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = ReadAhead(rows(10**9, []))
    ahead.close()
    ahead.close()
    ahead._thread.shutdown()
    assert threading.active_count() <= before
