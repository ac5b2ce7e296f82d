"""The demo removes nothing that it did not make."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import demo
from jobs.demo import MARKER, main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the demo hands to the job, which does not run."""
    calls: list[list[str]] = []
    monkeypatch.setattr(demo.compress, "main", lambda argv: calls.append(list(argv)) or 1)
    monkeypatch.setattr(demo, "write_documents", lambda path, limit: path.write_text("{}\n") and 1)
    return calls


@pytest.mark.parametrize("name", ["thesis.tex", "documents/thesis.tex", "fewshot/part.tex", "documents.jsonl"])
def test_a_folder_that_no_demo_made_is_left_alone(
    tmp_path: Path, name: str, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("…")
    assert main(["--output", str(tmp_path)]) == 2
    assert "no demo made it; name another folder" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "…"
    assert started == []


@pytest.mark.parametrize("name", ["thesis.tex", "documents/thesis.tex", "fewshot/notes/x.txt"])
def test_what_somebody_put_into_a_demos_folder_is_left_alone(
    tmp_path: Path, name: str, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "demo")]) == 1
    (tmp_path / "demo" / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / "demo" / name).write_text("…")
    assert main(["--output", str(tmp_path / "demo")]) == 2
    assert f"holds {name.rpartition('/x')[0] or name}, which no demo made" in capsys.readouterr().err
    assert (tmp_path / "demo" / name).read_text() == "…"
    assert len(started) == 1


def test_an_earlier_demo_is_replaced(tmp_path: Path, started: list[list[str]]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("…")
    for _ in range(2):
        assert main(["--output", str(tmp_path / "demo")]) == 1
        assert (tmp_path / "demo" / MARKER).is_file()
        assert not (tmp_path / "demo" / "documents").exists()
        (tmp_path / "demo" / "documents").mkdir()
        (tmp_path / "demo" / "documents" / "_plan.json").write_text("{}")
        (tmp_path / "demo" / "documents" / "part-00000-0123abcd.parquet").write_text("")
        if not (tmp_path / "demo" / "fewshot").is_symlink():
            (tmp_path / "demo" / "fewshot").symlink_to(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "x").read_text() == "…"
    assert len(started) == 2


def test_a_path_that_can_be_no_folder_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "demo"):
        assert main(["--output", str(path)]) == 2
        assert "name another folder" in capsys.readouterr().err
