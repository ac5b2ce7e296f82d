"""What a job needs and is not installed is told before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs import align, evaluate


@pytest.mark.parametrize(
    ("job", "module", "extra", "flags"),
    [
        (evaluate, "matplotlib", "eval", ["--data", "a=a.jsonl"]),
        (align, "peft", "train", ["--input", "a.jsonl", "--method", "lora"]),
    ],
)
def test_a_missing_package_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    job: object,
    module: str,
    extra: str,
    flags: list[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert job.main([*flags, "--output", str(tmp_path / "out")]) == 2  # type: ignore[attr-defined]
    assert capsys.readouterr().err == f"error: not installed: {module}; pip install 'lingua-batch[{extra}]'\n"
    assert not (tmp_path / "out").exists()
