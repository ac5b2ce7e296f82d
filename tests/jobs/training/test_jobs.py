"""What `jobs.align` and `jobs.distill` do alike: settings, and outputs that were begun before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.jobs.training.runs import JOBS, Job

NOWHERE = "model './nowhere': no such file or directory"
BOTH: list[tuple[dict[str, Any], str]] = [
    ({"input": "nowhere.jsonl"}, "input = "),
    ({"model": "./nowhere"}, NOWHERE),
    ({"model": "a" * 3000}, "is no path that can be read"),
    ({"epochs": 0}, "epochs = '0'"),
    ({"epoch": 1}, "unknown flag --epoch; did you mean --epochs"),
    ({"gpus_per_worker": 2}, "gpus_per_worker = '2': a worker computes on one GPU"),
]
OWN: dict[str, list[tuple[dict[str, Any], str]]] = {
    "align": [
        ({"model": "all-minilm-l6-v2"}, "is a bert, which reads no text from left to right"),
        ({"target": "./nowhere"}, NOWHERE),
        ({"template": "Q:"}, "template = 'Q:': write {instruction} once"),
        ({"endpoint": "http://localhost:1/v1"}, "endpoint needs --target"),
        ({"held_out": 24}, "held_out = 24: of 24 usable rows none is left"),
        ({"response_column": "output"}, "rows.jsonl, row 0: no column 'output', but instruction, response"),
    ],
    "distill": [
        ({"teacher": "compressor", "teacher_model": "./nowhere"}, NOWHERE),
        (
            {"teacher": "magic"},
            "teacher = 'magic': write compressor, endpoint, pairs, labels, answers, or module:function",
        ),
        ({"teacher": "no.such:thing"}, "teacher = no.such:thing: cannot be imported"),
        ({"teacher": "endpoint"}, "belong together"),
        ({"teacher_setting": "aggregate"}, "teacher_setting = 'aggregate': write KEY=VALUE"),
        ({"teacher_setting": "unit=letter"}, "unit = 'letter'"),
        ({"text_column": "body"}, "texts.jsonl, row 0: no column 'body', but text"),
    ],
}
CASES = [(name, *case) for name, own in OWN.items() for case in (*BOTH, *own)]


@pytest.fixture(params=JOBS)
def job(request: pytest.FixtureRequest) -> Job:
    return JOBS[request.param]


@pytest.mark.parametrize(("name", "change", "complaint"), CASES)
def test_wrong_settings_and_rows_end_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: dict[str, Any], complaint: str
) -> None:
    job = JOBS[name]
    assert job.module.main(job.flags(tmp_path, **change)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_setting_in_a_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], job: Job) -> None:
    (tmp_path / "job.yaml").write_text("learning-rate: 1\n")
    assert job.module.main(job.flags(tmp_path, config=tmp_path / "job.yaml")) == 2
    assert "unknown setting 'learning-rate'" in capsys.readouterr().err


def test_a_file_gives_settings_that_flags_overrule(tmp_path: Path, job: Job) -> None:
    (tmp_path / "job.yaml").write_text("seed: 5\nepochs: 9\n")
    job.run(tmp_path, config=tmp_path / "job.yaml", epochs=1)
    card = (tmp_path / "out" / "model" / "README.md").read_text().replace('"', "")
    assert "seed: 5" in card
    assert "epochs: 1" in card


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str], job: Job) -> None:
    with pytest.raises(SystemExit):
        job.module.main(["--help-all"])
    text = capsys.readouterr().out
    for key in job.config.model_json_schema(by_alias=True)["properties"]:
        assert f"--{key.replace('_', '-')}" in text


def test_a_finished_run_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], job: Job) -> None:
    job.run(tmp_path)
    told = capsys.readouterr().out
    (tmp_path / "out" / "model" / "README.md").unlink()
    job.run(tmp_path)
    assert not (tmp_path / "out" / "model" / "README.md").exists()
    again = capsys.readouterr().out
    assert "model: " in again
    assert told.endswith(again)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("align", "was begun otherwise: epochs was 2, now 3; use the same settings and inputs, or another output"),
        (
            "distill",
            "was begun otherwise: epochs was 2, now 3; restore that, or give another --output. To train again on",
        ),
    ],
)
def test_other_settings_and_rows_do_not_continue_an_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, complaint: str
) -> None:
    job = JOBS[name]
    job.run(tmp_path)
    assert job.module.main(job.flags(tmp_path, epochs=3)) == 1
    assert complaint in capsys.readouterr().err
    (rows,) = tmp_path.glob("*.jsonl")
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    assert job.module.main(job.flags(tmp_path)) == 1
    assert "rows was " in capsys.readouterr().err
