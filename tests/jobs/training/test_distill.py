"""`jobs.distill` from rows to a model directory, killed and taken up again, in this process and on Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from jobs import distill
from jobs.training.checkpoints import Checkpoints
from lingua import CompressionConfig, Compressor, Prompt
from tests import models
from tests.jobs.training.distill_runs import LONG_WORD, flags
from tests.jobs.training.rows import result_of
from tests.s3server import S3Bucket
from tests.texts import PROSE

ROOT = Path(__file__).resolve().parents[3]
DEADLY = """
import os, signal, sys
from jobs import distill
from jobs.training.distill_train import Training
learn = Training._step
def step(self, number, windows):
    if number == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, number, windows)
Training._step = step
sys.exit(distill.main(sys.argv[2:]))
"""


def run(folder: Path, output: str = "out", **others: Any) -> dict[str, Any]:
    assert distill.main(flags(folder, output, **others)) == 0
    return result_of(folder, output)


def test_the_student_learns_what_the_teacher_keeps(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=30)
    found = result["agreement"]
    assert found["auc"] > 0.9
    assert found["f1"] > found["chance"] + 0.25
    assert result["losses"][-1] < 0.7 * result["losses"][0]


def test_the_directory_is_a_model_that_compresses_as_the_teacher_would(tmp_path: Path) -> None:
    run(tmp_path, epochs=30)
    compressor = Compressor(str(tmp_path / "out" / "model"), CompressionConfig(method="llmlingua2", rate=0.4))
    (labels,) = compressor.word_labels([Prompt(context=[PROSE])])
    scores = {kind: [one.score for one in labels[0] if _is_long(one.text) is kind] for kind in (True, False)}
    assert sum(scores[True]) / len(scores[True]) > 0.2 + sum(scores[False]) / len(scores[False])


def _is_long(word: str) -> bool:
    return len(word.strip()) > LONG_WORD


def test_surprisal_of_a_causal_model_is_learnt_by_its_rank(tmp_path: Path) -> None:
    model = models.save(tmp_path / "causal")
    result = run(tmp_path, teacher="compressor", teacher_model=model, epochs=20)
    assert result["agreement"]["spearman"] > 0.2
    lines = (tmp_path / "out" / "labels" / "group-000000.jsonl").read_text().splitlines()
    assert max(score for line in lines for score in json.loads(line)["scores"]) > 1


def test_labels_of_one_run_are_the_input_of_another(tmp_path: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, "again", teacher="labels", input=tmp_path / "out" / "labels")
    assert second["losses"] == pytest.approx(first["losses"])
    assert second["agreement"] == first["agreement"]


def test_the_card_tells_settings_and_agreement_and_no_output_path(tmp_path: Path) -> None:
    result = run(tmp_path, seed=7)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert f"F1 {result['agreement']['f1']:.3f}" in card
    assert '"seed": 7' in card
    assert str(tmp_path / "out") not in card


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole")
    command = [sys.executable, "-c", DEADLY, "11", *flags(tmp_path, "killed")]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert died.returncode == -9, died.stderr
    steps = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert steps == ["step-00000004.pt", "step-00000008.pt"]
    time.sleep(1.5)  # the dead run's lease
    resumed = run(tmp_path, "killed")
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert resumed["agreement"] == pytest.approx(whole["agreement"], rel=1e-5)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    apart = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert apart < 5e-5  # another process rounds otherwise, and Adam makes steps of gradients that are nearly nothing


def test_a_run_goes_on_after_its_newest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = Checkpoints.save, []

    def once(self: Checkpoints, step: int, state: Any) -> None:
        save(self, step, state)
        saved.append(step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", once)
    with pytest.raises(KeyboardInterrupt):
        distill.main(flags(tmp_path))
    result = run(tmp_path)
    assert saved[:3] == [4, 8, 12]
    assert saved[-1] == len(result["losses"])
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


def test_a_finished_run_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    (tmp_path / "out" / "model" / "README.md").unlink()
    run(tmp_path)
    assert not (tmp_path / "out" / "model" / "README.md").exists()
    assert capsys.readouterr().out.count("held-out texts") == 2


def test_other_settings_do_not_go_on_with_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    assert distill.main(flags(tmp_path, epochs=3)) == 1
    complaint = capsys.readouterr().err
    assert "settings epochs: 2, now 3" in complaint
    assert "--teacher labels" in complaint
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.write('{"text": "One more."}\n')
    assert distill.main(flags(tmp_path)) == 1
    assert "inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": "nowhere.jsonl"}, "input = "),
        ({"model": "./nowhere"}, "model './nowhere': no such file or directory"),
        ({"teacher": "compressor", "teacher_model": "./nowhere"}, "model './nowhere': no such file or directory"),
        (
            {"teacher": "magic"},
            "teacher = 'magic': write compressor, endpoint, pairs, labels, answers, or module:function",
        ),
        ({"teacher": "no.such:thing"}, "teacher = no.such:thing: cannot be imported"),
        ({"teacher": "endpoint"}, "belong together"),
        ({"teacher_setting": "aggregate"}, "teacher_setting = 'aggregate': write KEY=VALUE"),
        ({"teacher_setting": "unit=letter"}, "unit = 'letter'"),
        ({"epochs": 0}, "epochs = '0'"),
        ({"epoch": 1}, "unrecognized arguments: --epoch 1"),
        ({"text_column": "body"}, "texts.jsonl, row 0: no column 'body', but text"),
    ],
)
def test_wrong_settings_and_rows_end_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], complaint: str
) -> None:
    assert distill.main(flags(tmp_path, **change)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_gives_settings_that_flags_overrule(tmp_path: Path) -> None:
    (tmp_path / "distill.yaml").write_text("held_out: 0.3\nepochs: 9\n")
    result = run(tmp_path, config=tmp_path / "distill.yaml", epochs=1)
    assert result["agreement"]["texts"] > result["windows"] * 0.3


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        distill.main(["--help"])
    text = capsys.readouterr().out
    for key in distill.DistillConfig.model_json_schema(by_alias=True)["properties"]:
        assert f"--{key.replace('_', '-')}" in text


def test_an_object_store_holds_labels_and_the_model(tmp_path: Path, s3: S3Bucket) -> None:
    given = flags(tmp_path, storage_options=json.dumps(s3.storage_options), max_steps=4)
    given[given.index("--output") + 1] = f"{s3.url}/distilled"
    assert distill.main(given) == 0
    folder = f"{s3.url}/distilled/".removeprefix("s3://")
    names = {path.removeprefix(folder) for path in s3.files.find(folder)}
    assert {"_plan.json", "_result.json", "labels/group-000000.jsonl", "model/model.safetensors"} <= names


@pytest.mark.ray
@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # its own defaults, set by itself
def test_two_workers_on_ray_make_a_model(tmp_path: Path) -> None:
    result = run(tmp_path, workers=2, cpus_per_worker=0.5, max_steps=6)
    alone = run(tmp_path, "alone", max_steps=6)
    assert result["losses"][0] == pytest.approx(alone["losses"][0], rel=0.05)
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
