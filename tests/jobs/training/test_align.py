"""`jobs.align` from rows to a model directory, killed and taken up again, in this process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs import align
from jobs.training import optimize
from lingua import CompressionConfig, Compressor, Prompt
from tests import models
from tests.jobs.evaluation.openai_server import Model, openai_server
from tests.jobs.training.rows import flags, result_of, write_rows
from tests.s3server import S3Bucket
from tests.texts import PROSE

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks
ROOT = Path(__file__).resolve().parents[3]
DEADLY = """
import os, signal, sys
from jobs import align
from jobs.training.optimize import Optimizer
learn = Optimizer.step
def step(self, number, steps, packs):
    if number == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, number, steps, packs)
Optimizer.step = step
sys.exit(align.main(sys.argv[2:]))
"""


def run(folder: Path, output: str = "out", **others: Any) -> dict[str, Any]:
    assert align.main(flags(folder, output, **others)) == 0
    return result_of(folder, output)


def test_perplexity_of_the_held_out_text_falls(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=6)
    assert result["after"]["perplexity"] < 0.7 * result["before"]["perplexity"]
    assert result["after"]["bits_per_byte"] < result["before"]["bits_per_byte"]
    assert result["losses"][-1] < result["losses"][0]
    assert result["after"]["agreement"] is None


def test_the_directory_is_a_model_that_compresses(tmp_path: Path) -> None:
    run(tmp_path)
    compressor = Compressor(str(tmp_path / "out" / "model"), CompressionConfig(rate=0.5))
    (outcome,) = compressor.compress([Prompt(context=[PROSE])])
    assert outcome.compressed_tokens < outcome.origin_tokens


def test_the_card_tells_data_settings_and_effect_and_no_path(tmp_path: Path) -> None:
    result = run(tmp_path, seed=7)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert str(tmp_path) not in card
    for told in (result["train_digest"], result["held_out_digest"], "seed: 7", f"{result['after']['perplexity']:.2f}"):
        assert told in card


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, method: str) -> None:
    settings = {"method": method, "lora_rank": 2, "lora_dropout": 0.3} if method == "lora" else {}
    whole = run(tmp_path, "whole", **settings)
    command = [sys.executable, "-c", DEADLY, "5", *flags(tmp_path, "killed", lease_seconds=1, **settings)]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert died.returncode == -9, died.stderr
    assert [path.name for path in sorted((tmp_path / "killed" / "checkpoints").iterdir())] == [
        "step-00000002.pt",
        "step-00000004.pt",
    ]
    time.sleep(1.1)  # the lease of the dead
    resumed = run(tmp_path, "killed", lease_seconds=1, **settings)
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert resumed["after"]["perplexity"] == pytest.approx(whole["after"]["perplexity"], rel=1e-5)
    assert resumed["before"] == whole["before"]


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[int] = []
    learn = optimize.Optimizer.step

    def step(self: Any, number: int, steps: int, packs: Any) -> float:
        learnt.append(number)
        if learnt == [0, 1, 2, 3, 4]:
            raise KeyboardInterrupt
        return learn(self, number, steps, packs)

    monkeypatch.setattr(optimize.Optimizer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        align.main(flags(tmp_path))
    result = run(tmp_path)
    assert learnt == [0, 1, 2, 3, 4, *range(4, len(result["losses"]))]
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


def test_a_finished_run_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    (tmp_path / "out" / "model" / "README.md").unlink()
    run(tmp_path)
    assert not (tmp_path / "out" / "model" / "README.md").exists()
    assert capsys.readouterr().out.count("| perplexity of the target's text |") == 2


def test_lora_changes_the_projections_and_nothing_else(tmp_path: Path) -> None:
    run(tmp_path, method="lora", lora_rank=2)
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "small").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_a_model_learns_from_what_a_target_wrote_and_agreement_is_measured(tmp_path: Path) -> None:
    target = models.save(tmp_path / "target", "qwen2")
    result = run(tmp_path, target=target, response_tokens=8, chunk_rows=5, epochs=4)
    assert result["after"]["perplexity"] < result["before"]["perplexity"]
    assert result["after"]["compared"] > 0
    assert -1 <= result["after"]["agreement"] <= 1
    texts = [path.read_text() for path in (tmp_path / "out" / "responses").glob("0*")]
    assert sum(len(text.splitlines()) for text in texts) == 24


def test_a_target_agrees_with_itself(tmp_path: Path) -> None:
    models.save(tmp_path / "small")
    result = run(tmp_path, target=tmp_path / "small", response_tokens=8, max_steps=1, learning_rate=1e-9)
    assert result["before"]["agreement"] == pytest.approx(1)


def test_other_settings_do_not_go_on_with_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    assert align.main(flags(tmp_path, epochs=3)) == 1
    assert "was begun otherwise: epochs was 2, is 3" in capsys.readouterr().err
    write_rows(tmp_path / "rows.jsonl", 25)
    assert align.main(flags(tmp_path)) == 1
    assert "rows was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": "nowhere.jsonl"}, "input = "),
        ({"model": "./nowhere"}, "model './nowhere': no such file or directory"),
        ({"target": "./nowhere"}, "model './nowhere': no such file or directory"),
        ({"template": "Q:"}, "template = 'Q:': write {instruction} once"),
        ({"endpoint": "http://localhost:1/v1"}, "endpoint needs --target"),
        ({"held_out": 24}, "held_out = 24: of 24 usable rows none is left"),
        ({"epochs": 0}, "epochs = '0'"),
        ({"epoch": 1}, "unrecognized arguments: --epoch 1"),
        ({"response_column": "output"}, "rows.jsonl, row 0: has no column 'output'"),
    ],
)
def test_wrong_settings_and_rows_end_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], complaint: str
) -> None:
    assert align.main(flags(tmp_path, **change)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_gives_settings_that_flags_overrule(tmp_path: Path) -> None:
    (tmp_path / "align.yaml").write_text("schedule: linear\nepochs: 9\n")
    result = run(tmp_path, config=tmp_path / "align.yaml", epochs=1)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "schedule: linear" in card
    assert "epochs: 1\n" in card
    assert result["rows"] == 20


def test_an_unknown_setting_in_a_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "align.yaml").write_text("learning-rate: 1\n")
    assert align.main(flags(tmp_path, config=tmp_path / "align.yaml")) == 2
    assert "unknown setting 'learning-rate'" in capsys.readouterr().err


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        align.main(["--help"])
    text = capsys.readouterr().out
    for key in align.AlignConfig.model_json_schema(by_alias=True)["properties"]:
        assert f"--{key.replace('_', '-')}" in text


def test_a_target_behind_an_endpoint_is_asked_once_for_every_row(tmp_path: Path) -> None:
    asked = Model()
    with openai_server(asked) as url:
        settings = {"target": "some-model", "endpoint": url, "endpoint_mode": "chat", "response_tokens": 8}
        result = run(tmp_path, **settings)
        run(tmp_path, **settings)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    contents = [request["messages"][0]["content"] for request in asked.requests]
    assert sorted(contents) == sorted(f"{row['instruction']}\n" for row in rows)
    assert result["after"]["agreement"] is None
    assert result["target_digest"] == f"chat:{url}:some-model"


def test_an_object_store_holds_checkpoints_and_the_model(tmp_path: Path, s3: S3Bucket) -> None:
    given = flags(tmp_path, storage_options=json.dumps(s3.storage_options), method="lora")
    given[given.index("--output") + 1] = f"{s3.url}/aligned"
    assert align.main([*given, "--max-steps", "4"]) == 0
    folder = f"{s3.url}/aligned/".removeprefix("s3://")
    names = {path.removeprefix(folder) for path in s3.files.find(folder)}
    assert {"_align.json", "_result.json", "model/model.safetensors", "model/README.md"} <= names
