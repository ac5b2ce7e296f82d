"""Local scratch folders: gone with their owner, however that ended."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from cluster.storage.local import SCRATCH_PREFIX, Scratch


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def abandoned(folder: Path, age: float) -> Path:
    left = folder / f"{SCRATCH_PREFIX}left"
    left.mkdir()
    (left / ".lock").touch()
    moment = left.stat().st_mtime - age
    os.utime(left, (moment, moment))
    return left


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = abandoned(tmp_path, age=120)
    scratch = Scratch()
    assert not left.exists()
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_and_new_ones_are_let_alone(tmp_path: Path) -> None:
    scratch = Scratch()
    os.utime(scratch.path, (0, 0))
    new = abandoned(tmp_path, age=0)
    Scratch().close()
    assert (scratch.path.exists(), new.exists()) == (True, True)
    scratch.close()
