"""Groups of labels are committed once; a killed run does what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from cluster.errors import AbortRun
from cluster.storage import Storage
from jobs.training.labels_read import Piece, groups
from jobs.training.labels_records import Labelled
from jobs.training.labels_store import LabelStore, label_groups
from jobs.training.labels_teachers import Teacher
from jobs.training.place import Place
from jobs.training.progress import Progress

PIECES = [Piece(f"row {number}", f"text {number}") for number in range(10)]


@dataclass
class Counting:
    """A teacher that remembers what it was shown, and dies before it is shown `deadly`."""

    deadly: str | None = None
    shown: list[str] = field(default_factory=list)
    loads: int = 0

    def load(self) -> Teacher:
        self.loads += 1
        return self

    def __call__(self, pieces: Sequence[Piece]) -> list[Labelled]:
        if any(piece.text == self.deadly for piece in pieces):
            raise KeyboardInterrupt
        self.shown += [piece.text for piece in pieces]
        return [Labelled((piece.text,), (1.0,), piece.origin) for piece in pieces]


def label(folder: Path, teacher: Counting, rank: int = 0, world: int = 1) -> LabelStore:
    place = Place(rank, world, torch.device("cpu"))
    store = LabelStore(str(folder / "labels"), Storage())
    progress = Progress("labels", Storage(), str(folder), place)
    if place.leads:
        store.note_total(4)
    label_groups(store, groups(PIECES, 3), teacher.load, place, progress)
    return store


def test_all_pieces_are_labelled_in_their_order(tmp_path: Path) -> None:
    store = label(tmp_path, Counting())
    assert [record.text for record in store.read()] == [piece.text for piece in PIECES]
    assert store.missing() == 0


def test_a_killed_run_is_completed_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    killed = Counting(deadly="text 6")
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, killed)
    second = Counting()
    store = label(tmp_path, second)
    assert killed.shown + second.shown == [piece.text for piece in PIECES]
    assert [record.text for record in store.read()] == [piece.text for piece in PIECES]


def test_where_all_is_labelled_no_teacher_is_loaded(tmp_path: Path) -> None:
    label(tmp_path, Counting())
    second = Counting()
    label(tmp_path, second)
    assert second.loads == 0


def test_workers_share_the_groups(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    label(tmp_path, first, 0, 2)
    store = label(tmp_path, second, 1, 2)
    assert sorted(first.shown + second.shown) == sorted(piece.text for piece in PIECES)
    assert set(first.shown).isdisjoint(second.shown)
    assert store.missing() == 0


def test_nobody_trains_on_half_of_the_labels(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "labels"), Storage())
    with pytest.raises(AbortRun, match="not known how many"):
        store.read()
    label(tmp_path, Counting(), 0, 2)
    assert store.missing() == 2
    with pytest.raises(AbortRun, match=r"missing \(2\)"):
        store.read()
