"""`jobs.align` on a real Ray: several workers do what one does, and a worker's death is not the run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import AbortRun
from jobs import align
from jobs.training.align_settings import AlignConfig
from jobs.training.run import staff
from tests.jobs.training import dying
from tests.jobs.training.rows import flags, result_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # its own defaults, set by itself
]


def test_two_workers_learn_what_one_learns(tmp_path: Path) -> None:
    assert align.main(flags(tmp_path, "one")) == 0
    assert align.main(flags(tmp_path, "two", workers=2)) == 0
    one, two = result_of(tmp_path, "one"), result_of(tmp_path, "two")
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["after"]["perplexity"] == pytest.approx(one["after"]["perplexity"], rel=1e-3)
    assert two["after"]["rows"] == one["after"]["rows"] == 4


def test_a_worker_that_dies_is_replaced_and_the_run_goes_on(tmp_path: Path) -> None:
    assert align.main(flags(tmp_path, "whole")) == 0
    config = AlignConfig.load(flags(tmp_path, "died", workers=2))
    Path(config.output).mkdir()
    with staff(config) as run:
        run(dying.train, 2)
    assert (tmp_path / "died" / "died").exists()
    assert result_of(tmp_path, "died")["losses"] == pytest.approx(result_of(tmp_path, "whole")["losses"], rel=1e-4)


def test_what_no_attempt_would_change_is_told_once(tmp_path: Path) -> None:
    config = AlignConfig.load(flags(tmp_path, workers=1))
    Path(config.output).mkdir()
    with staff(config) as run, pytest.raises(AbortRun, match="the loss is no number"):
        run(dying.complain, 1)
    assert (tmp_path / "out" / "attempts").read_text() == "1"
