"""The training jobs on a real Ray: several workers do what one does, and a worker's death is not the run's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import AbortRun
from jobs.training import alignment
from jobs.training.settings import AlignConfig
from jobs.training.trainer import Lesson
from jobs.training.workers import Rank, _in_worker
from lingua.errors import ModelError
from tests.jobs.training.runs import JOBS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("one_ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # its own defaults, set by itself
]
STEP = 3


def train_and_die(config: AlignConfig, rank: Rank) -> None:
    """Train; in step `STEP` the last worker's process ends, the first time."""
    learn, mark = alignment.learn, Path(config.output) / "died"

    def learning(lesson: Lesson, *others: Any, **arguments: Any) -> list[float]:
        collate, steps = lesson.collate, iter(range(1000))

        def dying(items: Any) -> dict[str, Any]:
            if next(steps) == STEP and rank.index == rank.world - 1 and not mark.exists():
                mark.touch()
                os._exit(1)
            return collate(items)

        object.__setattr__(lesson, "collate", dying)
        return learn(lesson, *others, **arguments)

    alignment.learn = learning  # type: ignore[attr-defined]
    _TRAIN(config, rank)


_TRAIN = alignment.train


def test_two_workers_learn_what_one_learns_also_when_one_of_them_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"step_sequences": 3, "checkpoint_every": 2}
    one = JOBS["align"].run(tmp_path, "one", **settings)
    monkeypatch.setattr(alignment, "train", train_and_die)
    two = JOBS["align"].run(tmp_path, "two", workers=2, cpus_per_worker=0.5, **settings)
    assert (tmp_path / "two" / "died").exists()
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["after"]["perplexity"] == pytest.approx(one["after"]["perplexity"], rel=1e-3)
    assert two["before"] == one["before"]


def test_two_workers_distil_also_where_one_has_nothing_to_read(tmp_path: Path) -> None:
    settings = {"batch_size": 1, "epochs": 1, "limit": 6}
    alone = JOBS["distill"].run(tmp_path, "alone", **settings)
    shutil.copytree(tmp_path / "alone", tmp_path / "out", ignore=shutil.ignore_patterns("model", "_result.json"))
    shared = JOBS["distill"].run(tmp_path, workers=2, cpus_per_worker=0.5, **settings)
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("error", [AbortRun("the loss is no number"), ModelError("the loss is no number")])
def test_what_no_attempt_would_change_is_told_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def work(config: AlignConfig, rank: Rank) -> None:
        assert (rank.index, rank.world, rank.device) == (1, 2, "cpu")
        raise error

    context = SimpleNamespace(get_world_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setattr("ray.train.v2.api.train_fn_utils.get_context", lambda: context)
    monkeypatch.setattr("ray.train.v2.torch.train_loop_utils.get_device", lambda: "cpu")
    config = AlignConfig(input="rows.jsonl", output=str(tmp_path))
    assert _in_worker(work, config) == "the loss is no number"
