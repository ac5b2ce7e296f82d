"""The demo removes nothing that it did not make."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.demo import main


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    assert main(["--output", str(tmp_path)]) == 2
    assert "is no folder of an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "…"
