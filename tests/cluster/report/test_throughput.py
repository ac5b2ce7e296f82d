"""Tokens per second over time: nothing is lost, and pauses between runs are not drawn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.output.records import Counts, Record
from cluster.protocol import ShardReport
from cluster.report.page import SPEED_BARS, Throughput
from tests.cluster.corpora import named, record

START = datetime(2026, 1, 1, tzinfo=UTC)


def commit(end: float, seconds: float, tokens: int) -> Record:
    report = ShardReport("part", "committed", Counts(1, 1, origin_tokens=tokens, compressed_tokens=tokens), seconds)
    return replace(record(named("part"), report), committed=(START + timedelta(seconds=end)).isoformat())


def test_an_even_run_has_even_bars() -> None:
    found = Throughput.over([commit(10, 10, 5000), commit(20, 10, 5000)])
    assert found.bars == pytest.approx([500.0] * SPEED_BARS)
    assert (found.seconds, found.idle) == (20.0, 0.0)


def test_workers_side_by_side_add_up() -> None:
    assert Throughput.over([commit(10, 10, 100)] * 3).bars == pytest.approx([30.0] * SPEED_BARS)


def test_a_pause_between_two_runs_is_left_out() -> None:
    found = Throughput.over([commit(10, 10, 1000), commit(100_010, 10, 1000)])
    assert (found.seconds, found.idle) == (20.0, 99_990.0)
    assert found.bars == pytest.approx([100.0] * SPEED_BARS)
    assert found.begin == START


def test_nothing_committed_is_nothing() -> None:
    assert Throughput.over([]) == Throughput()


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 5000), st.integers(0, 10**9)), min_size=1, max_size=20))
def test_every_token_is_in_some_bar(spans: list[tuple[int, float, int]]) -> None:
    found = Throughput.over([commit(*span) for span in spans])
    drawn = sum(found.bars) * found.seconds / SPEED_BARS
    assert drawn == pytest.approx(sum(tokens for _, _, tokens in spans), rel=1e-3, abs=1)
