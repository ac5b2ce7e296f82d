"""The training jobs on a real Ray: several workers do what one does, and a worker's death is not the run's.

One Ray serves all tests: to start it, and its workers' imports, takes most of their time. The first test starts it as
the job does. What their limit ends is a run that hangs, not one on a machine where many work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster import pool
from cluster.errors import AbortRun
from jobs import align
from jobs.training import align_work
from jobs.training.align_settings import AlignConfig
from jobs.training.run import staff
from tests.jobs.training import dying
from tests.jobs.training.both import JOBS
from tests.jobs.training.rows import flags, result_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # its own defaults, set by itself
]
TWO: dict[str, Any] = {"workers": 2, "cpus_per_worker": 0.5}


@pytest.fixture(scope="module", autouse=True)
def one_ray_for_all() -> Iterator[None]:
    started = pool.session
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def session(address: str | None = None) -> Iterator[None]:
            if not ray.is_initialized():
                stack.enter_context(started(address))
            yield

        patch.setattr(pool, "session", session)
        yield


def test_two_workers_learn_what_one_learns_also_when_one_of_them_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert align.main(flags(tmp_path, "one")) == 0
    monkeypatch.setattr(align_work, "train", dying.train)
    assert align.main(flags(tmp_path, "two", **TWO)) == 0
    assert (tmp_path / "two" / "died").exists()
    one, two = result_of(tmp_path, "one"), result_of(tmp_path, "two")
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["after"]["perplexity"] == pytest.approx(one["after"]["perplexity"], rel=1e-3)
    assert two["after"]["rows"] == one["after"]["rows"] == 4


def test_what_no_attempt_would_change_is_told_once(tmp_path: Path) -> None:
    config = AlignConfig.load(flags(tmp_path, workers=1))
    Path(config.output).mkdir()
    with staff(config) as run, pytest.raises(AbortRun, match="the loss is no number"):
        run(dying.complain, 1)
    assert (tmp_path / "out" / "attempts").read_text() == "1"


def test_two_workers_label_and_distil(tmp_path: Path) -> None:
    shared = JOBS["distill"].run(tmp_path, **TWO, max_steps=6)
    alone = JOBS["distill"].run(tmp_path, "alone", max_steps=6)
    assert shared["losses"][0] == pytest.approx(alone["losses"][0], rel=0.05)
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
