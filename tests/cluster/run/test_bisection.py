"""`Bisection`: exactly the poison rows are found, whatever they are and however many."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from cluster.protocol import Failure
from cluster.run.retry import MAX_POISON_ROWS, Bisection

DEATH = Failure("died", "worker_died", "signal 11")


def searched(rows: int, poison: Collection[int], accidents: Collection[int] = ()) -> tuple[Bisection, list[range], int]:
    """A search to its end; probe number n also dies if n is among `accidents`. Returns it, its probes, its deaths."""
    search, probes, deaths = Bisection(), [], 0
    while (probe := search.next_probe()) is not None:
        probes.append(probe)
        known = set(search.poison)
        if len(probes) - 1 in accidents or any(row in probe for row in set(poison) - known):
            search.ended(DEATH)
            deaths += 1
        else:
            search.ended(rows)
    return search, probes, deaths


@given(st.data())
def test_exactly_the_poison_rows_are_found(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 300))
    poison = data.draw(st.sets(st.integers(0, max(0, rows - 1)), max_size=min(rows, 6)))
    search, _, _ = searched(rows, poison)
    assert sorted(search.poison) == sorted(poison)
    assert search.gave_up is None


@given(st.integers(1, 300), st.data())
def test_accidents_cost_no_healthy_row_when_they_do_not_repeat(rows: int, data: st.DataObject) -> None:
    poison = data.draw(st.integers(0, rows - 1))
    accident = data.draw(st.integers(1, 12))
    search, _, _ = searched(rows, {poison}, {accident})
    assert set(search.poison) <= {poison}


def test_one_row_in_ten_thousand_costs_few_workers() -> None:
    _, probes, deaths = searched(10_000, {6_543})
    assert deaths <= 16
    assert len(probes) <= 28


def test_asking_again_repeats_the_probe() -> None:
    search = Bisection()
    search.ended(8)
    assert search.next_probe() == search.next_probe() == range(4)


def test_a_shard_that_kills_while_it_is_only_read_is_given_up() -> None:
    search = Bisection()
    search.ended(DEATH)
    search.ended(DEATH)
    assert search.next_probe() is None
    assert "reading it" in str(search.gave_up)


def test_a_shard_in_which_everything_kills_is_given_up() -> None:
    search, _, _ = searched(1000, range(1000))
    assert len(search.poison) == MAX_POISON_ROWS
    assert "looks like the machines" in str(search.gave_up)


def test_the_reason_tells_how_the_worker_ended() -> None:
    search = Bisection()
    search.ended(1)
    for _ in range(2):
        assert search.next_probe() == range(1)
        search.ended(Failure("stalled", "stalled", "no row for 60 s"))
    assert [why.reason for why in search.poison.values()] == ["stalled_worker"]
