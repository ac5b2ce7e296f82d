"""Ceilings and shapes: plain arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import AbortRun
from cluster.placement import WEIGHT_BYTES, WORKER_BYTES, ResourceRequest
from cluster.run.driver import RejectCeiling


@given(st.integers(1, 512), st.integers(1, 1000))
def test_workers_times_threads_use_every_core_and_no_more(cores: int, shards: int) -> None:
    shape = ResourceRequest(shards).shape(gpus=0, cpus=cores)
    assert shape.workers <= shards
    assert cores - shape.workers < shape.workers * shape.threads <= cores


def test_a_worker_has_one_thread_where_memory_holds_one_for_each_core() -> None:
    small, large = 100 << 20, 14 << 30
    shape = ResourceRequest(shards=100, model_bytes=small).shape(gpus=0, cpus=16, memory=64 << 30)
    assert (shape.workers, shape.threads) == (16, 1)
    shape = ResourceRequest(shards=100, model_bytes=small).shape(gpus=0, cpus=16, memory=8 << 30)
    assert (shape.workers, shape.threads) == (4, 4)
    shape = ResourceRequest(shards=100, model_bytes=large).shape(gpus=0, cpus=16, memory=64 << 30)
    assert (shape.workers, shape.threads) == (1, 16)
    assert ResourceRequest(shards=100, workers=2, model_bytes=large).shape(gpus=0, cpus=16, memory=1 << 30).workers == 2


@pytest.mark.parametrize("wish", [ResourceRequest(shards=100), ResourceRequest(shards=100, model_bytes=1 << 20)])
def test_where_memory_or_model_is_unknown_a_worker_has_a_few_threads(wish: ResourceRequest) -> None:
    assert wish.shape(gpus=0, cpus=16).threads == 4


@given(st.integers(1, 512), st.integers(1, 1000), st.integers(1, 600))
def test_no_more_workers_than_memory_holds(cores: int, shards: int, room: int) -> None:
    memory = room * (WORKER_BYTES + WEIGHT_BYTES * 1000)
    shape = ResourceRequest(shards, model_bytes=1000).shape(gpus=0, cpus=cores, memory=memory)
    assert shape.workers <= min(room, shards)
    assert shape.workers * shape.threads <= cores


def test_what_the_user_asked_for_is_taken() -> None:
    assert ResourceRequest(100, workers=3).shape(gpus=0, cpus=16).threads == 5
    assert ResourceRequest(100, cpus_per_worker=8).shape(gpus=0, cpus=16).workers == 2
    assert ResourceRequest(100, workers=9).shape(gpus=0, cpus=2).workers == 9


@pytest.mark.parametrize(("gpus", "share", "workers"), [(8, 1, 8), (1, 0.25, 4), (3, 0.3, 9), (0, 1, 1), (4, 2, 2)])
def test_gpus_are_shared_by_fractions(gpus: float, share: float, workers: int) -> None:
    assert ResourceRequest(1000, gpus_per_worker=share).shape(gpus, cpus=1).workers == workers


def test_a_fraction_of_a_core_is_one_thread() -> None:
    shape = ResourceRequest(shards=100, cpus_per_worker=0.5).shape(gpus=0, cpus=4)
    assert (shape.workers, shape.threads) == (4, 1)


def test_no_gpu_for_workers_means_processors_even_where_there_are_gpus() -> None:
    assert ResourceRequest(shards=100, gpus_per_worker=0).shape(gpus=8, cpus=8).gpus == 0


def test_a_share_is_not_judged_by_the_first_rows() -> None:
    ceiling = RejectCeiling(share=0.01)
    ceiling.check(5, 10, {}, final=False)
    with pytest.raises(AbortRun, match=r"5 of 10 rows \(50\.00%\) are rejected, max_rejected allows 1\.00%"):
        ceiling.check(5, 10, {}, final=True)
    with pytest.raises(AbortRun):
        ceiling.check(11, 1000, {}, final=False)


def test_zero_allows_no_reject_at_all() -> None:
    RejectCeiling(rows=0).check(0, 10, {}, final=True)
    with pytest.raises(AbortRun, match="1 rows are rejected, max_rejected allows 0"):
        RejectCeiling(rows=0).check(1, 10, {}, final=False)


def test_nothing_done_exceeds_nothing() -> None:
    RejectCeiling(share=0.0).check(0, 0, {}, final=True)


@pytest.mark.parametrize(("rejected", "rows"), [(0, 5), (4, 5), (10, 20), (10, 100), (100, 1000)])
def test_by_default_a_tenth_may_be_rejected_and_a_few_rows_of_a_small_corpus(rejected: int, rows: int) -> None:
    RejectCeiling.of(None).check(rejected, rows, {"null_text": rejected}, final=True)


@pytest.mark.parametrize(("rejected", "rows"), [(1, 1), (5, 5), (11, 20), (101, 1000), (1000, 1000)])
def test_by_default_a_run_ends_with_its_most_frequent_reason_where_more_or_all_are(rejected: int, rows: int) -> None:
    reasons = {"null_text": rejected - 1, "wrong_type": 1} if rejected > 2 else {"null_text": rejected}
    for final in (True, rows < 1000):
        with pytest.raises(AbortRun, match=r"most of them for null_text .*max_rejected allows 10\.00%"):
            RejectCeiling.of(None).check(rejected, rows, reasons, final=final)


def test_whoever_asks_for_it_may_reject_every_row() -> None:
    RejectCeiling.of(1.0).check(5, 5, {"null_text": 5}, final=True)
