"""The demo removes nothing, and a second one finds what the first made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import demo
from jobs.demo import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the demo hands to the job, which does not run."""
    calls: list[list[str]] = []
    monkeypatch.setattr(demo.compress, "main", lambda argv: calls.append(list(argv)) or 1)
    return calls


def test_a_second_demo_reads_the_same_file_and_leaves_all_others_alone(
    tmp_path: Path, started: list[list[str]]
) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    assert main(["--output", str(tmp_path), "--documents", "3"]) == 1
    corpus = tmp_path / "documents-3.jsonl"
    assert [json.loads(line).keys() for line in corpus.read_text().splitlines()] == [{"id", "package", "text"}] * 3
    before = corpus.stat()
    assert main(["--output", str(tmp_path), "--documents", "3"]) == 1
    assert corpus.stat() == before
    assert started[0] == started[1]
    assert (tmp_path / "thesis.tex").read_text() == "…"


def test_a_path_that_can_be_no_folder_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "demo"):
        assert main(["--output", str(path)]) == 2
        assert "name another folder" in capsys.readouterr().err
