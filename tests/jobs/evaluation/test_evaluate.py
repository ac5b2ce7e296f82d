"""The job from its command line: wrong input, and whole runs on a real local Ray with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate import main
from tests.jobs.evaluation.samples import make_reader, row, rows_file
from tests.models import save
from tests.pools import without_ray


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("compressor"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return rows_file(tmp_path, [row(f"r{number}") for number in range(5)])


def arguments(data: Path, model: Path, *extra: str) -> list[str]:
    fixed = ["--data", f"cities={data}", "--output", str(data.parent / "out"), "--model", str(model), "--workers", "1"]
    return [*fixed, "--candidate", "lead", "--candidate", "rarity", "--chunk", "2", *extra]


def measured(data: Path) -> list[dict[str, Any]]:
    files = sorted((data.parent / "out" / "measured").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rate", "3"], "rate"),
        (["--candidate", "mine: colour=red"], "candidate 'mine': unknown setting 'colour'"),
        (["--data", "other=nowhere.jsonl"], "nowhere.jsonl"),
        (["--offset", "5"], "no rows are left"),
        (["--target", "./no-such-model"], "no such file or directory"),
        (["--candidate", "mine: method=llmlingua2 model=./no-such-encoder"], "no such file or directory"),
    ],
)
def test_wrong_input_is_one_clear_line_and_exit_code_2_before_anything_is_written(
    data: Path, model: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(arguments(data, model, *extra)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not (data.parent / "out").exists()


def test_a_row_that_cannot_be_used_is_named(data: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with data.open("a") as stream:
        stream.write(json.dumps({"id": "x", "context": [1], "question": "", "answers": ["a"]}) + "\n")
    assert main(arguments(data, model)) == 2
    shown = capsys.readouterr().err
    assert f"{data}" in shown
    assert "'context' must be a list of strings" in shown


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_run_ends_in_tables_and_a_second_one_has_nothing_to_do(
    data: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(data, model, "--target", f"reader: model={model}")
    assert main(given, make_reader) == 0
    output = data.parent / "out"
    assert "### cities, 35% of the context's tokens" in capsys.readouterr().out
    assert "### cities, 35%" in (output / "summary.md").read_text()
    lines = json.loads((output / "summary.json").read_text())["lines"]
    assert {(line["candidate"], line["target"]) for line in lines} == {
        (name, target) for name in ("full", "nothing", "lead", "rarity") for target in ("", "reader")
    }
    (full,) = [line for line in lines if (line["candidate"], line["target"]) == ("full", "reader")]
    assert (full["rows"], full["rejected"], full["figures"]["share"]["value"]) == (5, 0, 1.0)
    before = measured(data)
    assert len(before) == 2 * 4 * 5

    monkeypatch.setattr("cluster.run.pool.session", _no_session)
    assert main(given, make_reader) == 0
    assert measured(data) == before


def test_an_interrupted_run_goes_on_with_what_is_missing_and_another_is_refused(
    data: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    assert main(arguments(data, model)) == 0
    files = sorted((data.parent / "out" / "measured").glob("*.jsonl"))
    before, times = measured(data), [file.stat().st_mtime_ns for file in files]
    files[0].unlink()
    assert main(arguments(data, model)) == 0
    assert measured(data) == before
    assert [file.stat().st_mtime_ns for file in files[1:]] == times[1:]
    assert main(arguments(data, model, "--rate", "0.5")) == 1
    assert "sizes was [0.35], now [0.5]" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["measured", "_rows"])
def test_a_damaged_file_of_a_run_is_told_and_made_again_once_deleted(
    data: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    without_ray(monkeypatch)
    assert main(arguments(data, model)) == 0
    before, unit = measured(data), min((data.parent / "out" / "measured").glob("*"))
    damaged = min((data.parent / "out" / folder).glob("*"))
    unit.unlink()
    for content in (b'{"row": "r0", "se', b'{"a": 1}\n', b"[]\n", b"\xff"):
        damaged.write_bytes(content)
        assert main(arguments(data, model)) == 1
        told = capsys.readouterr().err
        assert f"{damaged} is damaged" in told
        assert "delete it, and start again" in told
    damaged.unlink()
    assert main(arguments(data, model)) == 0
    assert measured(data) == before


def _no_session(*arguments: object) -> None:
    raise AssertionError("nothing is missing, so Ray is not needed")
