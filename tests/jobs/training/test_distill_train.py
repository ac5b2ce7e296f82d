"""A step learns from the whole batch, however many workers share it; targets may be soft."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.training.distill_examples import Window, windows_of
from jobs.training.distill_settings import DistillConfig
from jobs.training.distill_student import Student, load_student
from jobs.training.distill_train import Batch, Course, Training, token_loss
from jobs.training.labels_records import Labelled, words_of
from jobs.training.place import Place
from tests.jobs.training.distill_runs import letters, sentences, write_encoder

CPU = torch.device("cpu")


class Alone(Place):
    """One of several workers, whose part of what is added up is looked at."""

    __slots__ = ("parts",)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        object.__setattr__(self, "parts", [tensor.clone() for tensor in tensors])


def config(folder: Path, **settings: object) -> DistillConfig:
    plain = {"input": "rows.jsonl", "output": str(folder / "out"), "model": str(folder / "encoder"), **settings}
    return DistillConfig(**plain)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_encoder(tmp_path / "encoder")
    return tmp_path


def windows(student: Student) -> list[Window]:
    return [
        window
        for text, scores in zip(sentences(), letters(sentences()), strict=True)
        for window in windows_of(Labelled(words_of(text), tuple(scores)), student.chunker, lambda values: values / 20)
    ]


def parts(folder: Path, rank: int, world: int) -> list[Tensor]:
    """What a worker adds up in its first step: the loss and all gradients."""
    given = config(folder)
    student, place = load_student(given), Alone(rank, world, CPU)
    found = windows(student)
    student.model.eval()  # no dropout: it is another one on each worker
    Training(student, found, given, place)._step(1, found[:5])
    return list(place.parts)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_gradients_of_all_workers_add_up_to_that_of_one(folder: Path, world: int) -> None:
    (alone,) = [parts(folder, 0, 1)]
    shared = [parts(folder, rank, world) for rank in range(world)]
    for whole, *pieces in zip(alone, *shared, strict=True):
        torch.testing.assert_close(sum(pieces), whole, rtol=1e-4, atol=1e-6)


def test_the_loss_is_lowest_where_the_probability_is_the_target() -> None:
    keep = torch.linspace(-4, 4, 801, requires_grad=True)
    logits = torch.stack([torch.zeros(801), keep], -1)[None]
    losses = token_loss(logits, torch.full((1, 801), 0.3), keep=1)[0]
    best = torch.sigmoid(keep[losses.argmin()])
    assert float(best.detach()) == pytest.approx(0.3, abs=0.005)


def test_with_more_labels_than_two_keep_stands_against_all_others() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = -torch.log(torch.softmax(logits, -1)[..., 2])
    torch.testing.assert_close(token_loss(logits, torch.ones(2, 3), keep=2), expected)


def test_special_tokens_and_padding_are_no_text(folder: Path) -> None:
    student = load_student(config(folder))
    found = windows(student)[:3]
    batch = Batch.of(found, student, CPU)
    assert batch.text.sum(1).tolist() == [len(window.ids) for window in found]
    assert batch.mask.sum(1).tolist() == [len(window.ids) + 2 for window in found]
    assert batch.ids[:, 0].unique().tolist() == student.before
    assert not batch.text[:, 0].any()


def test_the_learning_rate_rises_and_falls(folder: Path) -> None:
    course = Course(config(folder, warmup=0.2, epochs=2, batch_size=5, learning_rate=1.0), [1] * 50)
    rates = [course.learning_rate(step) for step in range(1, course.steps + 1)]
    assert course.steps == 20
    assert max(rates) == rates[3] == 1
    assert rates[:4] == sorted(rates[:4])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.1


@pytest.mark.parametrize("done", [0, 3, 10, 13, 19, 20])
def test_after_any_step_come_those_that_follow_it(folder: Path, done: int) -> None:
    course = Course(config(folder, epochs=2, batch_size=5), [1] * 50)
    assert list(course.after(done)) == list(course.after(0))[done:]


def test_most_steps_end_a_run_early(folder: Path) -> None:
    course = Course(config(folder, epochs=9, batch_size=5, max_steps=7), [1] * 50)
    assert [step for step, _ in course.after(0)] == list(range(1, 8))
