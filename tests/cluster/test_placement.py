"""What workers a job asks for by the method it was given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.placement import Machine, ResourceRequest, WorkerShape, fitted
from lingua.errors import ConfigError


def test_a_method_without_a_model_asks_for_no_gpu_and_no_room_for_weights(tmp_path: Path) -> None:
    def shape(method: str) -> WorkerShape:
        config = JobConfig.load(["--input", "in.jsonl", "--output", str(tmp_path), "--method", method])
        return ResourceRequest.of(config, 100, [config.compression.own.needs], model_bytes=1 << 36).shape(
            gpus=4, cpus=8, memory=float(1 << 34)
        )

    assert (shape("evidence").gpus, shape("evidence").workers) == (0.0, 8)
    assert (shape("llmlingua").gpus, shape("llmlingua").workers) == (1.0, 4)


ONE = [Machine(gpus=0, cpus=4)]
TWO_GPUS = [Machine(gpus=2, cpus=16)]


@pytest.mark.parametrize(
    ("asked", "machines", "said"),
    [
        ({"gpus_per_worker": 1}, ONE, "a worker would need 1 GPU and 1 CPU, and this machine has 0 GPUs and 4 CPUs"),
        ({"gpus_per_worker": 0.5}, ONE, "a worker would need 0.5 GPU"),
        ({"gpus_per_worker": 4}, TWO_GPUS, "a worker would need 4 GPU"),
        ({"cpus_per_worker": 8}, ONE, "cpus_per_worker = 8: a worker would need 8 CPU"),
        ({"cpus_per_worker": 32, "gpus_per_worker": 1}, TWO_GPUS, "a worker would need 1 GPU and 32 CPU"),
        ({"workers": 3, "cpus_per_worker": 2}, ONE, "room for 2; ask for fewer workers"),
        ({"workers": 3}, TWO_GPUS, "workers = 3: each worker needs 1 GPU and 1 CPU"),
        ({"workers": 5, "gpus_per_worker": 0.6}, TWO_GPUS, "room for 2"),
    ],
)
def test_what_can_never_be_had_on_fixed_machines_is_told_with_what_is_there(
    asked: dict[str, Any], machines: list[Machine], said: str
) -> None:
    wish = ResourceRequest(shards=100, **asked, fixed=True)
    shape = wish.shape(sum(one.gpus for one in machines), sum(one.cpus for one in machines))
    with pytest.raises(ConfigError, match=re.escape(said)):
        fitted(wish, shape, machines)


@pytest.mark.parametrize(
    ("asked", "machines", "workers", "cpus"),
    [
        ({}, ONE, 2, 2),
        ({"workers": 9}, ONE, 9, 0.4444),
        ({"workers": 2, "cpus_per_worker": 2}, ONE, 2, 2),
        ({"workers": 4, "gpus_per_worker": 0.5}, TWO_GPUS, 4, 1),
        ({"workers": 6, "gpus_per_worker": 1 / 3}, TWO_GPUS, 6, 1),
        ({"gpus_per_worker": 1, "cpus_per_worker": 8}, TWO_GPUS, 2, 8),
        ({"gpus_per_worker": 1, "cpus_per_worker": 16}, TWO_GPUS, 1, 16),
    ],
)
def test_what_fits_is_hired(asked: dict[str, Any], machines: list[Machine], workers: int, cpus: float) -> None:
    wish = ResourceRequest(shards=100, **asked, fixed=True)
    shape = wish.shape(sum(one.gpus for one in machines), sum(one.cpus for one in machines))
    hired = fitted(wish, shape, machines)
    assert (hired.workers, hired.cpus) == (workers, cpus)
    assert hired.room(machines) >= workers


def test_a_worker_never_spans_machines() -> None:
    shape = WorkerShape(workers=1, gpus=2, threads=1)
    assert not shape.room([Machine(gpus=1, cpus=8)] * 2)


@pytest.mark.parametrize("share", [1.5, 2, 8])
def test_more_gpus_than_a_worker_can_use_are_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a worker computes on one GPU"):
        JobConfig(input="in.jsonl", output=str(tmp_path), gpus_per_worker=share)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"device": "cuda:1"}, "write 'cuda'.*CUDA_VISIBLE_DEVICES"),
        ({"device": "cpu", "gpus_per_worker": 1}, "nothing would use them"),
        ({"device": "cuda", "gpus_per_worker": 0}, "it would have none"),
        ({"gpu_memory": 0}, "gpu_memory"),
        ({"gpu_memory": 1.5}, "gpu_memory"),
    ],
)
def test_devices_and_gpus_that_do_not_go_together_are_refused(
    settings: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        JobConfig(input="in.jsonl", output=str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("device", "method", "gpus"),
    [
        ("cpu", "llmlingua", 0),
        ("auto", "llmlingua", 1),
        ("cuda", "llmlingua", 1),
        ("cuda:0", "llmlingua", 1),
        ("auto", "evidence", 0),
        ("cuda", "evidence", 1),
        ("cpu", "evidence", 0),
    ],
)
def test_a_gpu_is_reserved_for_what_uses_one(device: str, method: str, gpus: float, tmp_path: Path) -> None:
    config = JobConfig(input="in.jsonl", output=str(tmp_path), device=device, method=method)
    assert ResourceRequest.of(config, 100, [config.compression.own.needs]).shape(gpus=4, cpus=8).gpus == gpus


@pytest.mark.parametrize(("gpus", "share", "workers"), [(4, 0.3, 12), (2, 0.4, 4), (8, 1 / 3, 24), (3, 0.6, 3)])
def test_a_share_of_a_gpu_is_all_on_one_of_them(gpus: int, share: float, workers: int) -> None:
    assert ResourceRequest(shards=100, gpus_per_worker=share).shape(gpus=gpus, cpus=64).workers == workers
