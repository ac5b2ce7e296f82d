"""The items of every step depend on the seed alone, and workers share a step, however many there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.output.folder import RunFolder
from jobs.training.trainer import newest, schedule, shares
from jobs.training.workers import Rank
from tests.jobs.training.runs import JOBS


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 3), st.integers(0, 3))
def test_every_item_is_learnt_from_once_an_epoch(count: int, size: int, epochs: int, seed: int) -> None:
    lengths = [number * 7 % 31 for number in range(count)]
    steps = schedule(lengths, size, epochs, seed)
    assert Counter(number for step in steps for number in step) == dict.fromkeys(range(count), epochs)
    assert len(steps) == epochs * -(-count // size)
    assert steps == schedule(lengths, size, epochs, seed)


def test_another_seed_and_another_epoch_give_another_order() -> None:
    steps = schedule([10] * 40, 5, 2, seed=0)
    assert steps[:8] != steps[8:]
    assert steps[:8] != schedule([10] * 40, 5, 1, seed=1)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
def test_the_shares_of_all_workers_are_the_step(count: int, size: int, world: int, at_once: int) -> None:
    steps = schedule([1] * count, size, 2, seed=0)
    found = [shares(steps, at_once, Rank(rank, world)) for rank in range(world)]
    (pieces,) = {pieces for _, pieces in found}
    assert {len(own) for own, _ in found} == {len(steps) * pieces}
    assert all(len(piece) <= at_once for own, _ in found for piece in own)
    for number, step in enumerate(steps):
        read = [item for own, _ in found for piece in own[number * pieces : (number + 1) * pieces] for item in piece]
        assert sorted(read) == sorted(step)


def test_a_checkpoint_without_its_last_file_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "out"), "test")
    assert newest(folder, tmp_path / "local") is None
    for step, files in {9: ["a", "trainer_state.json"], 10: ["a", "trainer_state.json"], 11: ["a"]}.items():
        for file in files:
            folder.create(f"checkpoints/checkpoint-{step}/{file}", f"{step}".encode())
    local = newest(folder, tmp_path / "local")
    assert local is not None
    assert Path(local, "a").read_text() == "10"


def test_a_run_of_one_step_learns(tmp_path: Path) -> None:
    result = JOBS["align"].run(tmp_path, epochs=1, step_sequences=99)
    assert result["after"]["perplexity"] != result["before"]["perplexity"]


@pytest.mark.parametrize("job", JOBS)
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str) -> None:
    assert JOBS[job].module.main(JOBS[job].flags(tmp_path, learning_rate=1e30)) == 1
    assert "lower learning_rate (now 1e+30)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
