"""The demo removes nothing, and a second one finds what the first made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import demo
from jobs.demo import CORPORA, SAMPLES, main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the demo hands to the job, which does not run."""
    calls: list[list[str]] = []
    monkeypatch.setattr(demo.compress, "main", lambda argv: calls.append(list(argv)) or 1)
    return calls


def test_a_second_demo_is_the_same_and_leaves_all_other_files_alone(tmp_path: Path, started: list[list[str]]) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    assert [main(["--output", str(tmp_path)]) for _ in range(2)] == [1, 1]
    assert started[0] == started[1]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", CORPORA)
def test_the_samples_are_rows_that_the_job_reads(tmp_path: Path, name: str) -> None:
    rows = [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text("utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) > 5
    assert all(row.get("text") or row["context"] for row in rows)


def test_a_path_that_can_be_no_folder_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "demo"):
        assert main(["--output", str(path)]) == 2
        assert "name another folder" in capsys.readouterr().err
