"""What workers a job asks for by the method it was given."""

from __future__ import annotations

from pathlib import Path

from cluster.config import JobConfig
from cluster.limits import Wish, WorkerShape


def test_a_method_without_a_model_asks_for_no_gpu_and_no_room_for_weights(tmp_path: Path) -> None:
    def shape(method: str) -> WorkerShape:
        config = JobConfig.load(["--input", "in.jsonl", "--output", str(tmp_path), "--method", method])
        return Wish.of(config, 100, model_bytes=1 << 36).shape(gpus=4, cpus=8, memory=float(1 << 34))

    assert (shape("evidence").gpus, shape("evidence").workers) == (0.0, 8)
    assert (shape("llmlingua").gpus, shape("llmlingua").workers) == (1.0, 4)
